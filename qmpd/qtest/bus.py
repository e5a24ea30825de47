"""What a test program sees in place of a guest's CPU: memory, ports, and the devices that the core models behind them.

(Ports: hw/watchdog/wdt_ib700.c, hw/misc/pvpanic-isa.c, hw/misc/debugexit.c of QEMU.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.guest import effects as devices

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from qmpd.machine.machine import Machine
    from qmpd.schedule.clock import SteppedClock

_PAGE = 4096
_IB700_DISABLE, _IB700_ENABLE = 0x441, 0x443
_PVPANIC = 0x505
_PVPANIC_PANICKED, _PVPANIC_CRASHLOADED = 1, 2
_DEBUG_EXIT = 0x501
_WATCHDOG = "watchdog"
_SECOND = 1_000_000_000
# What a value written to ib700's port means, in seconds.
_IB700_TIMES = (30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0)


class TestBus:
    """Memory that is made as it is written, and ports; nothing answers where no device is."""

    __test__ = False
    __slots__ = ("_clock", "_machine", "_outputs", "_pages", "_size", "_watchdog")

    def __init__(self, machine: Machine, clock: SteppedClock) -> None:
        self._machine = machine
        self._clock = clock
        self._size = machine.settings.memory
        self._pages: dict[int, bytearray] = {}
        self._outputs: dict[int, Callable[[int], None]] = {}
        if devices.has_device(machine, frozenset({"ib700"})):
            self._outputs[_IB700_ENABLE] = self._enable_watchdog
            self._outputs[_IB700_DISABLE] = self._disable_watchdog
        for device in machine.settings.devices:
            if device.driver == "pvpanic":
                self._outputs[_number(device.properties.get("ioport"), _PVPANIC)] = self._panic
            elif device.driver == "isa-debug-exit":
                port = _number(device.properties.get("iobase"), _DEBUG_EXIT)
                self._outputs[port] = lambda value: devices.debug_exit(machine, value)

    # Memory

    def read(self, address: int, size: int) -> bytes:
        """Bytes of memory; zeros where there is none."""
        data = bytearray()
        while len(data) < size:
            number, offset = divmod(address + len(data), _PAGE)
            length = min(_PAGE - offset, size - len(data))
            page = self._pages.get(number)
            data += page[offset : offset + length] if page is not None else bytes(length)
        return bytes(data)

    def write(self, address: int, data: bytes) -> None:
        """Put bytes into memory; what is outside of it is lost."""
        done = 0
        while done < len(data) and address + done < self._size:
            number, offset = divmod(address + done, _PAGE)
            length = min(_PAGE - offset, len(data) - done)
            page = self._pages.setdefault(number, bytearray(_PAGE))
            page[offset : offset + length] = data[done : done + length]
            done += length

    # Ports

    def input(self, port: int, size: int) -> int:
        """What a port of `size` bytes reads: all ones where no device answers."""
        if port in self._outputs:
            return _PVPANIC_PANICKED | _PVPANIC_CRASHLOADED if self._outputs[port] == self._panic else 0
        return (1 << 8 * size) - 1

    def output(self, port: int, value: int) -> None:
        """Write to a port."""
        act = self._outputs.get(port)
        if act is not None:
            act(value)

    def _enable_watchdog(self, value: int) -> None:
        self._machine.schedule.set(self, _WATCHDOG, _IB700_TIMES[value & 15] * _SECOND)

    def _disable_watchdog(self, _value: int) -> None:
        self._machine.schedule.cancel(self, _WATCHDOG)

    def timer_due(self, name: Hashable) -> None:
        """The watchdog has run out (`qmpd.schedule.schedule.Owner`)."""
        devices.watchdog_expired(self._machine)

    def _panic(self, value: int) -> None:
        if value & _PVPANIC_PANICKED:
            devices.guest_panicked(self._machine)
        elif value & _PVPANIC_CRASHLOADED:
            devices.guest_crashloaded(self._machine)

    # Time

    def step(self, nanoseconds: int | None) -> int:
        """Let time pass, to the next timer where no length is given; gives the time then."""
        clock, machine = self._clock, self._machine
        now = clock.monotonic_nanoseconds()
        if nanoseconds is None:
            deadline = machine.next_deadline()
            end = now if deadline is None else max(deadline, now)
        else:
            end = now + nanoseconds
        while True:
            deadline = machine.next_deadline()
            moment = end if deadline is None else min(deadline, end)
            clock.advance(max(moment - clock.monotonic_nanoseconds(), 0))
            if deadline is None or deadline > end:
                return clock.monotonic_nanoseconds()
            machine.run_timers()


def _number(text: str | None, default: int) -> int:
    try:
        return int(text, 0) if text else default
    except ValueError:
        return default
