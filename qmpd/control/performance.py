"""A control command as something to be performed: its declaration, and the steps of one that takes long."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar, cast

R = TypeVar("R")

Steps = Generator[None, None, R]
"""A command that takes long, in steps; others have their turn between them."""


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


def in_steps(steps: Steps[R]) -> R:
    """What a method that takes long returns: whoever performs it takes the steps, and has the result."""
    return cast("R", steps)


def result_of(result: Any) -> Any:
    """What a command gives; all its steps are taken, where it has some."""
    if not isinstance(result, Generator):
        return result
    while True:
        try:
            next(result)
        except StopIteration as end:
            return end.value
