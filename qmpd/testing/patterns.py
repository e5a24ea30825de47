"""Patterns of commands, and whether what clients sent fits them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmpd.timeline.wording import spell_members, spell_value


@dataclass(frozen=True, slots=True)
class Command:
    """A command that a client sent; `time` is in seconds since the VM began, by the VM's clock.

    `out_of_band`: it was sent with `exec-oob`.
    """

    name: str
    arguments: dict[str, Any]
    id: Any
    client: int
    time: float
    out_of_band: bool = False

    def __str__(self) -> str:
        return f"{self.name} {spell_members(self.arguments)}".strip()


@dataclass(frozen=True, slots=True)
class Event:
    """An event that the VM emitted; `time` is in seconds since the VM began, by the VM's clock."""

    name: str
    data: dict[str, Any]
    time: float


class CommandPattern:
    """What a command should be like; see `command`."""

    __slots__ = ("arguments", "client", "exactly", "name")

    def __init__(
        self, name: str | re.Pattern[str], arguments: Mapping[str, Any], client: int | None, exactly: bool
    ) -> None:
        self.name = name
        self.arguments = arguments
        self.client = client
        self.exactly = exactly

    def __str__(self) -> str:
        name = self.name if isinstance(self.name, str) else f"/{self.name.pattern}/"
        arguments = " ".join(f"{key}={_spell(value)}" for key, value in self.arguments.items())
        client = "" if self.client is None else f" (client {self.client})"
        return f"{name} {arguments}".strip() + client

    def mismatch(self, sent: Command) -> str | None:
        """Why a command does not fit; None where it does, an empty text where it is another command altogether."""
        if not _name_fits(self.name, sent.name) or (self.client is not None and self.client != sent.client):
            return ""
        for key, wanted in self.arguments.items():
            member = key if key in sent.arguments else key.replace("_", "-")
            if member not in sent.arguments:
                return f"has no {member}"
            reason = difference(wanted, sent.arguments[member], member)
            if reason is not None:
                return reason
        if self.exactly:
            known = {key if key in sent.arguments else key.replace("_", "-") for key in self.arguments}
            for member in sent.arguments:
                if member not in known:
                    return f"has {member}"
        return None

    def fits(self, sent: Command) -> bool:
        """Whether a command is like this."""
        return self.mismatch(sent) is None


Pattern = str | re.Pattern[str] | CommandPattern
"""A command's name (`query-*` stands for all that begin so), a regular expression for it, or a `command(...)`."""


def command(
    name: str | re.Pattern[str],
    /,
    *,
    arguments: Mapping[str, Any] | None = None,
    client: int | None = None,
    **members: Any,
) -> CommandPattern:
    """A pattern of commands, with these arguments among others.

    An argument's pattern is a value; a regular expression, which a string has to match as a whole; a type, which the
    value has to have; a function, which has to return something true; an object (dict), whose members are patterns of
    some of the value's members; or a list, item by item.  Underscores in a name stand for dashes where that is how the
    argument is spelled.

    :param name: the command's name, in which `*` stands for anything, or a regular expression.
    :param arguments: all of the arguments, where there are to be no others.
    :param client: the number of the client that sent it, from 1.
    """
    if arguments is not None and members:
        raise TypeError("the arguments are given either as a whole or one by one")
    return CommandPattern(name, members if arguments is None else arguments, client, arguments is not None)


def as_pattern(pattern: Pattern, members: Mapping[str, Any] | None = None) -> CommandPattern:
    """The pattern that somebody means by a name."""
    if isinstance(pattern, CommandPattern):
        if members:
            raise TypeError("a pattern has its own arguments")
        return pattern
    return command(pattern, **(members or {}))


def name_pattern(name: str | re.Pattern[str]) -> Callable[[str], bool]:
    """A test of names."""
    return lambda text: _name_fits(name, text)


def _name_fits(name: str | re.Pattern[str], text: str) -> bool:
    if isinstance(name, re.Pattern):
        return name.fullmatch(text) is not None
    return name == text or fnmatch.fnmatchcase(text, name)


def difference(wanted: Any, value: Any, path: str) -> str | None:
    """Where a value does not fit a pattern, in words; None where it fits."""
    if isinstance(wanted, re.Pattern):
        fits = isinstance(value, str) and wanted.fullmatch(value) is not None
    elif isinstance(wanted, type):
        fits = isinstance(value, wanted)
    elif isinstance(wanted, Mapping):
        if not isinstance(value, Mapping):
            return f"{path} is {spell_value(value)}, not an object"
        for key, member in wanted.items():
            if key not in value:
                return f"has no {path}.{key}"
            reason = difference(member, value[key], f"{path}.{key}")
            if reason is not None:
                return reason
        return None
    elif isinstance(wanted, Sequence) and not isinstance(wanted, str):
        if not isinstance(value, list) or len(value) != len(wanted):
            return f"{path} is {spell_value(value)}, not {_spell(wanted)}"
        for index, item in enumerate(wanted):
            reason = difference(item, value[index], f"{path}[{index}]")
            if reason is not None:
                return reason
        return None
    elif callable(wanted):
        fits = bool(wanted(value))
    else:
        # JSON's true is not 1, as it is in Python.
        fits = wanted == value and not (isinstance(wanted, int) and isinstance(wanted, bool) != isinstance(value, bool))
    return None if fits else f"{path} is {spell_value(value)}, not {_spell(wanted)}"


def _spell(value: Any) -> str:
    if isinstance(value, re.Pattern):
        return f"/{value.pattern}/"
    if callable(value):
        return f"<{getattr(value, '__name__', 'function')}>"
    try:
        return spell_value(value)
    except TypeError:
        return repr(value)
