"""The stage on which a machine is played: what comes between it and its clients, and how a command is performed."""

from __future__ import annotations

import enum
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qmpd.control.errors import ControlError
from qmpd.control.fault_list import FaultKind, FaultList
from qmpd.control.interceptor import Interceptor
from qmpd.control.overrides import Overrides
from qmpd.control.performance import Declaration, Steps, result_of
from qmpd.control.recorder import EntryKind, Recorder
from qmpd.control.values import MISSING, wire_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qmpd.control.host import Host
    from qmpd.machine import Machine
    from qmpd.qapi import Release

SETTLING = 100_000
"""Passes of the main loop after which a machine counts as one that never settles."""


class Stage:
    """A machine that is played.

    `recorder` writes its transcript, `fault_list` and `overrides` say what goes wrong and what is made up;
    `interceptor` brings that about.
    """

    __slots__ = ("_performing", "fault_list", "host", "interceptor", "overrides", "recorder")

    def __init__(self, host: Host) -> None:
        self.host = host
        self.recorder = Recorder(host.clock)
        self.fault_list = FaultList(host, self.recorder)
        self.overrides = Overrides()
        self.interceptor = Interceptor(host, self.recorder, self.fault_list, self.overrides)
        self._performing = False

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
        return self.fault_list.holds(FaultKind.HANG_MAIN_LOOP)

    def perform(
        self, declaration: Declaration, group: object, arguments: tuple[Any, ...], options: Mapping[str, Any]
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
        self, declaration: Declaration, group: object, arguments: tuple[Any, ...], options: Mapping[str, Any]
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
        self.machine.schedule.run((self.fault_list, self.interceptor))
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
        return self.machine.schedule.next_deadline(None if goes_on else (self.fault_list, self.interceptor))


def _as_sent(value: Any) -> Any:
    """An argument as JSON has it: what is of any type is so already, however deep it nests."""
    if isinstance(value, list):
        return [_as_sent(item) if isinstance(item, enum.Enum) else item for item in value]
    return str(value) if isinstance(value, enum.Enum) else value
