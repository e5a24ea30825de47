"""What makes a method a control command: one declaration, from which everything else is derived.

A method marked with `command` is that command's declaration as well as its execution: the names, types and
defaults of its parameters are the command's arguments, its annotated result is what the command returns, the
first sentence of its docstring what the list of commands says.  `qmpd.control.interface` makes introspection,
argument checks and the JSON Schema of it.  Underscores become dashes on the wire.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from qmpd.control.errors import ControlError

if TYPE_CHECKING:
    from qmpd.control.puppeteer import Puppeteer

P = ParamSpec("P")
R = TypeVar("R")
G = TypeVar("G", bound="Group")

Steps = Generator[None, None, R]
"""A command that takes long, in steps; others have their turn between them."""


class Group:
    """Commands that belong together; `Puppeteer` has one object of each group."""

    __slots__ = ("_puppeteer",)

    def __init__(self, puppeteer: Puppeteer) -> None:
        self._puppeteer = puppeteer


class Declaration:
    """One command: its name on the wire, the function that executes it, and whether the transcript tells of it."""

    __slots__ = ("function", "name", "silent")

    def __init__(self, name: str, function: Callable[..., Any], silent: bool) -> None:
        self.name = name
        self.function = function
        self.silent = silent

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]


def command(
    name: str, silent: bool | None = None
) -> Callable[[Callable[Concatenate[G, P], R]], Callable[Concatenate[G, P], R]]:
    """Declare a method as the control command `name`; it is silent where it only asks for something.

    Whoever calls it, from Python or through the socket: what the clients had sent by then is executed before,
    and what it brought about is served before it returns.
    """

    def declare(function: Callable[Concatenate[G, P], R]) -> Callable[Concatenate[G, P], R]:
        declaration = Declaration(name, function, name.startswith("query-") if silent is None else silent)

        @functools.wraps(function)
        def perform(group: G, /, *arguments: P.args, **options: P.kwargs) -> R:
            __tracebackhide__ = True
            from qmpd.control.checked import checked

            try:
                given, named = checked(function, arguments, options)
            except (ControlError, TypeError) as error:
                # What is wrong is wrong in the caller's line.
                raise error.with_traceback(None) from None
            result: R = group._puppeteer.perform(declaration, group, given, named)
            return result

        perform.declaration = declaration  # type: ignore[attr-defined]
        return perform

    return declare


def in_steps(steps: Steps[R]) -> R:
    """What a method that takes long returns: whoever performs it takes the steps, and has the result."""
    return cast("R", steps)


def declarations(group: type[Group]) -> list[Declaration]:
    """The commands of a group, in the order in which they stand in its class."""
    return [member.declaration for member in vars(group).values() if hasattr(member, "declaration")]
