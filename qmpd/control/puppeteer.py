"""The puppeteer of one machine: everything that a test can make happen, as typed methods.

    puppeteer = virtual_machine.play()
    puppeteer.guest.set(boot_time="2s", on_powerdown=GuestAction.NONE)
    puppeteer.guest.reboot()
    puppeteer.clock.advance(90)

The methods are the control socket's commands (`qmpd.control.declaration`), in groups.  They are to be called in
the thread that runs the machine, between two passes of its main loop; none of them waits.  What the clients have
sent by then is executed before, and what a method brings about (the main loop's turns, events, replies) has
happened when it returns.  That, and a virtual clock, is why the same steps give the same transcript.
"""

from __future__ import annotations

import enum
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qmpd.control.errors import ControlError
from qmpd.control.faults import FaultControl, FaultKind
from qmpd.control.guest import GuestControl
from qmpd.control.interceptor import Interceptor
from qmpd.control.replies import ReplyControl
from qmpd.control.time import ClockControl
from qmpd.control.transcript import EntryKind, Recorder, TranscriptControl, TranscriptEntry
from qmpd.control.values import MISSING, wire_name
from qmpd.monitor.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qmpd.control.declaration import Declaration, Group, Steps
    from qmpd.control.host import Host
    from qmpd.machine import Event, Machine, RunState
    from qmpd.qapi import Release

GROUPS: dict[str, type[Group]] = {
    "guest": GuestControl,
    "clock": ClockControl,
    "faults": FaultControl,
    "replies": ReplyControl,
    "transcript": TranscriptControl,
}
"""The groups of commands, by the attribute of `Puppeteer` that has them."""

EVENTS: dict[str, Any] = {"TRANSCRIPT": TranscriptEntry}
"""The control socket's events, each with the type of its data."""

SETTLING = 100_000
"""Passes of the main loop after which a machine counts as one that never settles."""


class Puppeteer:
    """Plays one machine.

    `guest`, `clock`, `faults`, `replies` and `transcript` are its groups of methods; `recorder` is what writes the
    transcript, and may be followed.
    """

    __slots__ = (
        "_performing",
        "clock",
        "faults",
        "guest",
        "host",
        "interceptor",
        "recorder",
        "replies",
        "transcript",
    )

    def __init__(self, host: Host) -> None:
        """Take the strings of a machine; clients that are there already count as connected now."""
        self.host = host
        self.recorder = Recorder(host.clock)
        self.guest = GuestControl(self)
        self.clock = ClockControl(self)
        self.faults = FaultControl(self)
        self.replies = ReplyControl(self)
        self.transcript = TranscriptControl(self)
        self.interceptor = Interceptor(self)
        self._performing = False
        host.dispatcher.points = self.interceptor
        self.watch()
        self.recorder.record(EntryKind.STARTED, release=self.release.name, name=host.system.settings.name)
        for session in host.dispatcher.sessions:
            if type(session) is Session:
                self.interceptor.adopt(session)

    def watch(self) -> None:
        """Watch the machine; to be called again where the host has got another one."""
        self.machine.observer = self

    @property
    def machine(self) -> Machine:
        """The machine."""
        return self.host.system.machine

    @property
    def release(self) -> Release:
        """The release of QEMU that the machine shows."""
        return self.host.system.release

    @property
    def ended(self) -> bool:
        """Whether the machine has ended."""
        return self.host.system.exit_status is not None

    @property
    def hung(self) -> bool:
        """Whether a fault keeps the main loop from all work."""
        return self.faults.holds(FaultKind.HANG_MAIN_LOOP)

    def perform(
        self, declaration: Declaration, group: Group, arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        """Execute a command between what was sent before it and what it brings about.

        :raise ControlError: the machine has ended, and the command is not one that only asks for something.
        """
        if self._performing:
            return result_of(declaration.function(group, *arguments, **options))
        try:
            return result_of(self.steps(declaration, group, arguments, options))
        finally:
            self.host.wake()

    def steps(
        self, declaration: Declaration, group: Group, arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Steps[Any]:
        """The same, but a command that takes long yields now and then, for others to have their turn.

        :raise ControlError: the machine has ended, and the command is not one that only asks for something.
        """
        with self._perform():
            self.catch_up()
            if not declaration.silent:
                if self.ended:
                    raise ControlError("the machine has ended")
                self._record(declaration, arguments, options)
            result = declaration.function(group, *arguments, **options)
            if not isinstance(result, Generator):
                self.settle()
                return result
        while True:
            with self._perform():
                try:
                    next(result)
                except StopIteration as end:
                    self.settle()
                    return end.value
            yield

    @contextmanager
    def _perform(self) -> Iterator[None]:
        """While a command is performed the methods that it calls are part of it."""
        self._performing = True
        try:
            yield
        finally:
            self._performing = False

    def _record(self, declaration: Declaration, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        named = dict(zip(declaration.function.__code__.co_varnames[1:], arguments, strict=False))
        given = {**named, **options}
        wire = {wire_name(name): _as_sent(value) for name, value in given.items() if value not in (None, MISSING)}
        self.recorder.record(EntryKind.CONTROL, command=declaration.name, arguments=wire or MISSING)

    # The main loop.

    def run(self) -> bool:
        """What the puppeteer has to do in each pass of the main loop; whether that is all that may happen in it."""
        self.machine.schedule.run((self.faults, self.interceptor))
        return self.hung

    def catch_up(self) -> None:
        """Execute what clients have sent by now."""
        self.host.catch_up()
        self.settle()
        self.host.close_ended()

    def settle(self) -> None:
        """Let the main loop go round until it would wait."""
        for _ in range(SETTLING):
            if self.ended or self.run() or not self.host.step():
                break
        self.host.flush()

    def next_deadline(self) -> int | None:
        """When the next timer of any kind is due, on the clock's monotonic nanoseconds; None without one."""
        goes_on = not self.hung and not self.host.away
        return self.machine.schedule.next_deadline(None if goes_on else (self.faults, self.interceptor))

    def finish(self, status: int) -> None:
        """The machine has ended."""
        self.recorder.record(EntryKind.ENDED, status=status)

    # What the machine tells (`qmpd.machine.machine.Observer`).

    def state_changed(self, old: RunState, new: RunState) -> None:
        """Write down that the run state has changed."""
        self.recorder.record(EntryKind.RUN_STATE, from_=str(old), to=str(new))

    def emitted(self, event: Event) -> None:
        """Write down that an event is emitted."""
        self.recorder.record(EntryKind.EVENT, event=event.name, data=MISSING if event.data is None else event.data)

    def guest_step(self, name: str) -> None:
        """Write down what the guest does next."""
        self.recorder.record(EntryKind.GUEST, step=name)


def _as_sent(value: Any) -> Any:
    """An argument as JSON has it: what is of any type is so already, however deep it nests."""
    if isinstance(value, list):
        return [_as_sent(item) if isinstance(item, enum.Enum) else item for item in value]
    return str(value) if isinstance(value, enum.Enum) else value


def result_of(result: Any) -> Any:
    """What a command gives; all its steps are taken, where it has some."""
    if not isinstance(result, Generator):
        return result
    while True:
        try:
            next(result)
        except StopIteration as end:
            return end.value
