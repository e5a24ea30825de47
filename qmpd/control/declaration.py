"""What makes a method a control command: one declaration, from which everything else is derived.

A method marked with `command` is that command's declaration as well as its execution: the names, types and
defaults of its parameters are the command's arguments, its annotated result is what the command returns, the
first sentence of its docstring what the list of commands says.  `qmpd.control.interface` makes introspection,
argument checks and the JSON Schema of it.  Underscores become dashes on the wire.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from qmpd.control.errors import ControlError
from qmpd.control.performance import Declaration

if TYPE_CHECKING:
    from qmpd.control.stage import Stage

P = ParamSpec("P")
R = TypeVar("R")
G = TypeVar("G", bound="Group")

class Group:
    """Commands that belong together; `Puppeteer` has one object of each group, and is the stage that they act on."""

    __slots__ = ("_stage",)

    def __init__(self, stage: Stage) -> None:
        self._stage = stage


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
            result: R = group._stage.perform(declaration, group, given, named)
            return result

        perform.declaration = declaration  # type: ignore[attr-defined]
        return perform

    return declare


def declarations(group: type[Group]) -> list[Declaration]:
    """The commands of a group, in the order in which they stand in its class; those that it inherits are last."""
    found = (member for kind in group.__mro__ for member in vars(kind).values())
    return [member.declaration for member in found if hasattr(member, "declaration")]
