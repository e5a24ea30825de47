"""Replies that are made up, and the tables of commands in which they take effect."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.control.errors import ControlError
from qmpd.control.recorder import EntryKind
from qmpd.control.values import MISSING
from qmpd.monitor.entry import Entry
from qmpd.monitor.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qmpd.control.client import Client
    from qmpd.monitor.client import Client as Asking
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.qapi import Release
    from qmpd.system.system import System

ERROR_CLASSES = ("GenericError", "CommandNotFound", "DeviceNotActive", "DeviceNotFound", "KVMMissingCap")


@dataclass(slots=True)
class ReplyOverride:
    """A reply that is made up: for which command, with which arguments among others, how many more times.

    Without `count` it holds until it is cleared.  `execute`: the command is carried out all the same.
    """

    id: int
    command: str
    arguments: Any = MISSING
    return_: Any = MISSING
    error: str | None = None
    error_class: str | None = None
    count: int | None = None
    execute: bool = False

    def matches(self, arguments: Mapping[str, object]) -> bool:
        """Whether a command with these arguments is meant."""
        wanted = self.arguments
        if wanted is MISSING:
            return True
        return all(name in arguments and arguments[name] == value for name, value in wanted.items())


class Overrides:
    """The overrides of a machine, in the order in which they were given; the first that matches is used."""

    __slots__ = ("_last", "_overrides")

    def __init__(self) -> None:
        self._overrides: list[ReplyOverride] = []
        self._last = 0

    def __iter__(self) -> Iterator[ReplyOverride]:
        return iter(self._overrides)

    def next(self) -> int:
        """A new override's id."""
        self._last += 1
        return self._last

    def add(self, override: ReplyOverride) -> None:
        """Have one more."""
        self._overrides.append(override)

    def remove(self, override: ReplyOverride) -> None:
        """Have it no longer."""
        self._overrides.remove(override)

    # For a process that takes the machine over.

    def state(self) -> tuple[list[ReplyOverride], int]:
        """The overrides, and the last id that was given."""
        return self._overrides, self._last

    def restore(self, overrides: list[ReplyOverride], last: int) -> None:
        """Have these overrides."""
        self._overrides = overrides
        self._last = last

    # For the sessions' tables of commands.

    def has(self, name: str) -> bool:
        """Whether there is an override for this command, whatever its arguments."""
        return any(each.command == name for each in self._overrides)

    def take(self, name: str, arguments: Mapping[str, object]) -> ReplyOverride | None:
        """The override for this request, one use less from now on."""
        for each in self._overrides:
            if each.command == name and each.matches(arguments):
                if each.count is not None:
                    each.count -= 1
                    if each.count == 0:
                        self._overrides.remove(each)
                return each
        return None


class OverriddenCommands(dict[str, "Entry | None"]):
    """A session's table of commands, in which overridden ones have another execution."""

    __slots__ = ("_client", "_dispatcher", "_negotiated", "_overrides")

    def __init__(self, dispatcher: Dispatcher, overrides: Overrides, client: Client, negotiated: bool) -> None:
        super().__init__()
        self._dispatcher = dispatcher
        self._overrides = overrides
        self._client = client
        self._negotiated = negotiated

    def negotiated(self) -> OverriddenCommands:
        """The table once the client has negotiated."""
        return OverriddenCommands(self._dispatcher, self._overrides, self._client, negotiated=True)

    def __getitem__(self, name: str) -> Entry | None:
        table = self._dispatcher.commands if self._negotiated else self._dispatcher.negotiation_commands
        entry = table[name]
        if not self._overrides.has(name) or (entry is None and not self._negotiated):
            return entry
        return self._overridden(name, entry)

    def _overridden(self, name: str, entry: Entry | None) -> Entry:
        overrides, client = self._overrides, self._client

        def answer(system: System, session: Asking, arguments: dict[str, object]) -> object:
            override = overrides.take(name, arguments)
            if override is None:
                if entry is None:
                    raise CommandError(f"The command {name} has not been found", "CommandNotFound")
                return entry.handler(system, session, arguments)
            client.recorder.record(EntryKind.OVERRIDE, client=client.number, command=name, id=override.id)
            if override.execute and entry is not None:
                with contextlib.suppress(Refusal):
                    entry.handler(system, session, arguments)
            if override.error is not None:
                raise CommandError(override.error, override.error_class or ERROR_CLASSES[0])
            return override.return_

        if entry is None:
            return Entry(name, answer, _accept, allow_oob=True, allow_preconfig=True)
        return Entry(name, answer, entry.check, allow_oob=entry.allow_oob, allow_preconfig=entry.allow_preconfig)


def _accept(arguments: dict[str, object]) -> None:
    """A command that the release does not have takes any arguments."""


def event_data(release: Release, event: str, data: Any, check: bool) -> dict[str, object] | None:
    """The data of an event, checked.

    :raise ControlError: it does not fit.
    """
    if data is not MISSING and not isinstance(data, dict):
        raise ControlError("'data' is an object")
    found: dict[str, object] | None = None if data is MISSING else data
    if check:
        from qmpd.qapi.validation import NotValid, validate_event

        try:
            validate_event(release, event, found)
        except NotValid as error:
            raise ControlError(str(error)) from None
        except KeyError:
            raise ControlError(f"release {release.name} has no event {event}") from None
    return found
