"""Doing what a QMP command does, and reading the lists of options that some of the human monitor's commands take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson

from qmpd.common.refusals import NotModelled
from qmpd.human.line import Line
from qmpd.monitor.commands import handler
from qmpd.monitor.commands.unmodelled import answer_unmodelled
from qmpd.option_language.groups import OptionGroups
from qmpd.system.deferred import Deferred
from qmpd.wire import Encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Handler
    from qmpd.option_language.groups import Entry
    from qmpd.system.system import System

    Part = Callable[[System, Line], str | Deferred]


def execute(system: System, name: str, arguments: dict[str, Any], line: Line | None = None) -> str:
    """Do what the QMP command does; gives nothing.

    :raise Refusal: it refuses.
    """
    call(system, name, arguments, line)
    return ""


def carry_out(system: System, name: str, arguments: dict[str, Any], line: Line | None = None) -> str | Deferred:
    """Do what a QMP command does that takes its time; gives nothing, in the end.

    :raise Refusal: it refuses at once.
    """
    came = call(system, name, arguments, line)
    return came.told_as(lambda value: "") if isinstance(came, Deferred) else ""


def call(system: System, name: str, arguments: dict[str, Any], line: Line | None = None) -> object:
    """Do what the QMP command does; gives what that returns.

    :raise Refusal: it refuses.
    """
    system.release.commands[name].check(arguments)
    client = None if line is None else line.client
    return _modelled(name)(system, cast("Client", client), arguments)


def ask(system: System, name: str) -> Any:
    """What a command without arguments gives.

    :raise Refusal: it refuses.
    """
    return _modelled(name)(system, cast("Client", None), {})


def answer(system: System, name: str) -> Any:
    """What a query without arguments answers, be it modelled or captured.

    :raise Refusal: it is refused.
    """
    found = ask(system, name)
    return orjson.loads(bytes(found)) if isinstance(found, Encoded) else found


def _modelled(name: str) -> Handler:
    """What executes a command."""
    return handler(name) or answer_unmodelled(name)


def without_arguments(name: str) -> Part:
    """The line that does what the QMP command does, which takes nothing and gives nothing."""

    def part(system: System, line: Line) -> str:
        line.end()
        ask(system, name)
        return ""

    return part


def listed(system: System, *words: str) -> str:
    """A list that the command line prints for these words.

    :raise NotModelled: it was not captured.
    """
    found = system.release.command_line.text(*words, program="")
    if found is None:
        raise NotModelled(f"the list of {' '.join(words)}")
    return found[0]


def _ignore(text: str) -> None:
    del text


def read_options(
    system: System, group: str, text: str, taken: Iterable[str] = (), warn: Callable[[str], None] = _ignore
) -> Entry:
    """The list of a group's keys that a text is, where these ids are taken; `warn` is told what is doubtful in it.

    :raise Refusal: it is none.
    """
    groups = OptionGroups(system.release, lambda said: warn(said.removeprefix(": ")))
    for identifier in taken:
        groups.reserve(group, identifier)
    return groups.read_list(text, group, "")
