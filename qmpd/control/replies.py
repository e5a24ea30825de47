"""Replies and events that are made up."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qmpd.control.declaration import Group, command
from qmpd.control.errors import ControlError
from qmpd.control.transcript import EntryKind
from qmpd.control.values import MISSING
from qmpd.machine import MachineError
from qmpd.monitor.entry import Entry
from qmpd.monitor.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.control.puppeteer import Puppeteer
    from qmpd.control.session import Client
    from qmpd.monitor.client import Client as Asking
    from qmpd.monitor.dispatcher import Dispatcher
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


@dataclass(slots=True)
class _Book:
    """The overrides, in the order in which they were given; the first that matches is used."""

    overrides: list[ReplyOverride] = field(default_factory=list)
    last: int = 0


class ReplyControl(Group):
    """Overrides of replies, and events out of nowhere."""

    __slots__ = ("_book",)

    def __init__(self, puppeteer: Puppeteer) -> None:
        super().__init__(puppeteer)
        self._book = _Book()

    @command("override-reply")
    def override(
        self,
        command: str,
        return_: Any = MISSING,
        error: str | None = None,
        error_class: str | None = None,
        arguments: Any = MISSING,
        count: int | None = None,
        check: bool = True,
        execute: bool = False,
    ) -> ReplyOverride:
        """Answer the next `count` requests for `command` with this value or this error, instead of executing them.

        Without `count` it holds until it is cleared; of several overrides the first that matches is used.

        :param return_: the value of the reply's `return`; either this or `error`, the error's text.
        :param arguments: members that the request's arguments have to have.
        :param check: whether the release has to have the command, and the value to fit its declaration.
        :param execute: carry the command out all the same, and drop its own reply.
        :raise ControlError: the value does not fit, or the arguments say nothing sensible.
        """
        if (return_ is MISSING) == (error is None):
            raise ControlError("either 'return' or 'error' is what the reply is to be")
        if error_class is not None and error is None:
            raise ControlError("'error-class' belongs to 'error'")
        if error_class is not None and error_class not in ERROR_CLASSES:
            raise ControlError(f"'error-class' is one of {', '.join(ERROR_CLASSES)}")
        if arguments is not MISSING and not isinstance(arguments, dict):
            raise ControlError("'arguments' is an object")
        if count is not None and count < 1:
            raise ControlError("'count' is a positive number")
        if check:
            self._check(command, return_)
        self._book.last += 1
        made = ReplyOverride(
            id=self._book.last,
            command=command,
            arguments=arguments,
            return_=return_,
            error=error,
            error_class=(error_class or ERROR_CLASSES[0]) if error is not None else None,
            count=count,
            execute=execute,
        )
        self._book.overrides.append(made)
        return made

    @command("query-overrides")
    def query(self) -> list[ReplyOverride]:
        """List the overrides that hold."""
        return list(self._book.overrides)

    @command("override-clear")
    def clear(self, id_: int | None = None) -> None:
        """Forget one override, or all.

        :raise ControlError: there is none of that id.
        """
        overrides = self._book.overrides
        if id_ is not None and all(each.id != id_ for each in overrides):
            raise ControlError(f"there is no override {id_}")
        overrides[:] = [each for each in overrides if id_ is not None and each.id != id_]

    @command("emit-event")
    def emit(self, event: str, data: Any = MISSING, check: bool = True) -> None:
        """Emit an event, as the machine does: rate limits hold it back like its own.

        :param check: whether the release has to have the event, and the data to fit its declaration.
        :raise ControlError: it does not fit.
        """
        self._puppeteer.machine.emit(event, self.event_data(event, data, check))

    def event_data(self, event: str, data: Any, check: bool) -> dict[str, object] | None:
        """The data of an event, checked.

        :raise ControlError: it does not fit.
        """
        if data is not MISSING and not isinstance(data, dict):
            raise ControlError("'data' is an object")
        found: dict[str, object] | None = None if data is MISSING else data
        if check:
            from qmpd.qapi.validation import NotValid, validate_event

            try:
                validate_event(self._puppeteer.release, event, found)
            except NotValid as error:
                raise ControlError(str(error)) from None
            except KeyError:
                raise ControlError(f"release {self._puppeteer.release.name} has no event {event}") from None
        return found

    def _check(self, command: str, value: Any) -> None:
        release = self._puppeteer.release
        if command not in release.commands:
            raise ControlError(f"release {release.name} has no command {command}")
        if value is not MISSING:
            from qmpd.qapi.validation import NotValid, validate_reply

            try:
                validate_reply(release, command, value)
            except NotValid as error:
                raise ControlError(str(error)) from None

    # For a process that takes the machine over.

    def state(self) -> tuple[list[ReplyOverride], int]:
        """The overrides, and the last id that was given."""
        return self._book.overrides, self._book.last

    def restore(self, overrides: list[ReplyOverride], last: int) -> None:
        """Have these overrides."""
        self._book = _Book(overrides, last)

    # For the sessions' tables of commands.

    def has(self, name: str) -> bool:
        """Whether there is an override for this command, whatever its arguments."""
        return any(each.command == name for each in self._book.overrides)

    def take(self, name: str, arguments: Mapping[str, object]) -> ReplyOverride | None:
        """The override for this request, one use less from now on."""
        for each in self._book.overrides:
            if each.command == name and each.matches(arguments):
                if each.count is not None:
                    each.count -= 1
                    if each.count == 0:
                        self._book.overrides.remove(each)
                return each
        return None


class OverriddenCommands(dict[str, "Entry | None"]):
    """A session's table of commands, in which overridden ones have another execution."""

    __slots__ = ("_client", "_dispatcher", "_negotiated", "_replies")

    def __init__(self, dispatcher: Dispatcher, replies: ReplyControl, client: Client, negotiated: bool) -> None:
        super().__init__()
        self._dispatcher = dispatcher
        self._replies = replies
        self._client = client
        self._negotiated = negotiated

    def negotiated(self) -> OverriddenCommands:
        """The table once the client has negotiated."""
        return OverriddenCommands(self._dispatcher, self._replies, self._client, negotiated=True)

    def __getitem__(self, name: str) -> Entry | None:
        table = self._dispatcher.commands if self._negotiated else self._dispatcher.negotiation_commands
        entry = table[name]
        if not self._replies.has(name) or (entry is None and not self._negotiated):
            return entry
        return self._overridden(name, entry)

    def _overridden(self, name: str, entry: Entry | None) -> Entry:
        replies, client = self._replies, self._client

        def answer(system: System, session: Asking, arguments: dict[str, object]) -> object:
            override = replies.take(name, arguments)
            if override is None:
                if entry is None:
                    raise CommandError(f"The command {name} has not been found", "CommandNotFound")
                return entry.handler(system, session, arguments)
            client.recorder.record(EntryKind.OVERRIDE, client=client.number, command=name, id=override.id)
            if override.execute and entry is not None:
                with contextlib.suppress(CommandError, MachineError):
                    entry.handler(system, session, arguments)
            if override.error is not None:
                raise CommandError(override.error, override.error_class or ERROR_CLASSES[0])
            return override.return_

        if entry is None:
            return Entry(name, answer, _accept, allow_oob=True, allow_preconfig=True)
        return Entry(name, answer, entry.check, allow_oob=entry.allow_oob, allow_preconfig=entry.allow_preconfig)


def _accept(arguments: dict[str, object]) -> None:
    """A command that the release does not have takes any arguments."""


