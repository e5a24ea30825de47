"""The qtest protocol: a test program plays the guest's CPU and the clock, a line at a time.

A command is a line of words, its answer a line that begins with `OK` or `FAIL`.  Nothing here emulates devices: memory
and the ports of the devices that decide about the machine's state answer (`qmpd.qtest.bus`), others are empty,
and no interrupt is ever raised.  (docs/devel/testing/qtest; the answers of the real program.)
"""

from __future__ import annotations

import base64
import binascii
import time
from functools import partial
from typing import TYPE_CHECKING

from qmpd.monitor.defects import UNEXPECTED, reported, said
from qmpd.monitor.session import Session
from qmpd.qtest.bus import TestBus
from qmpd.schedule.clock import SteppedClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.monitor.session import SessionDispatcher
    from qmpd.system.system import System

_WIDTHS = {"b": 1, "w": 2, "l": 4, "q": 8}
_ADDRESS = (1 << 64) - 1
LARGEST = 16 << 20
"""Bytes that one command reads or writes; the real program takes what it is told, and may end of it."""
LONGEST = 2 * LARGEST + 4096
"""Bytes that a line can have: those that a command writes are two digits each."""


class _Fail(Exception):  # noqa: N818 - what the answer says
    """The command is answered with FAIL."""


class QtestSession(Session):
    """A test program's connection."""

    is_monitor = False

    __slots__ = ("_bus", "_clock", "_commands", "_input", "_log", "_size", "_started", "_system")

    def __init__(
        self, system: System, dispatcher: SessionDispatcher, label: str, log: Callable[[str], None] | None = None
    ) -> None:
        super().__init__(dispatcher, label=label, pretty=False)
        clock = system.clock
        self._clock = clock if isinstance(clock, SteppedClock) else SteppedClock()
        self._system = system
        self._bus = TestBus(system.machine, self._clock)
        # The pieces of a line whose end is still to come, and how long they are; they are dropped when it is too long.
        self._input: list[bytes] = []
        self._size = 0
        self._log = log
        self._started = time.monotonic()
        self._commands: dict[str, Callable[[list[str]], str]] = {
            "irq_intercept_in": self._intercept,
            "irq_intercept_out": self._intercept,
            "set_irq_in": lambda words: self._arguments(words, 4, ""),
            "read": self._read,
            "write": self._write,
            "b64read": self._read_base64,
            "b64write": self._write_base64,
            "memset": self._fill,
            "endianness": lambda words: "little",
            "clock_step": self._step,
            "clock_set": self._set,
            "module_load": lambda words: self._arguments(words, 2, ""),
        }
        for letter, width in _WIDTHS.items():
            self._commands[f"write{letter}"] = partial(self._write_number, width)
            self._commands[f"read{letter}"] = partial(self._read_number, width)
            if width < 8:
                self._commands[f"out{letter}"] = partial(self._output, width)
                self._commands[f"in{letter}"] = partial(self._input_port, width)
        self._note("I", "OPENED", sign="")

    def receive(self, data: bytes) -> None:
        """Take bytes; each line that they finish is executed at once."""
        first, *others = data.split(b"\n")
        self._take(first)
        for piece in others:
            line, too_long = b"".join(self._input), self._size > LONGEST
            self._input.clear()
            self._size = 0
            self._take(piece)
            if too_long:
                self.send(f"FAIL A line has at most {LONGEST} bytes\n".encode())
                continue
            words = line.decode("utf-8", "replace").split()
            if not words:
                continue
            self._note("R", " ".join(words))
            answer = self._execute(words)
            self._note("S", answer)
            self.send(answer.encode() + b"\n")
            if self._system.machine.pending:
                self._system.turn()

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > LONGEST:
            self._input.clear()
        elif piece:
            self._input.append(piece)

    def receive_plain(self, data: bytes) -> bool:
        """Nothing here is JSON."""
        return False

    def fail(self, text: str) -> None:
        """Answer that a line could not be read."""
        self.send(f"FAIL {' '.join(text.split())}\n".encode())

    def _execute(self, words: list[str]) -> str:
        command = self._commands.get(words[0])
        if command is None:
            return f"FAIL Unknown command '{words[0]}'"
        try:
            return f"OK {command(words[1:])}".rstrip()
        except _Fail as failure:
            return f"FAIL {failure}"
        except (ValueError, IndexError, OverflowError):
            return f"FAIL Invalid arguments of '{words[0]}'"
        except UNEXPECTED as error:
            self._system.report_defect(reported(error))
            return f"FAIL {said(error)}"

    def _note(self, kind: str, text: str, *, sign: str = "+") -> None:
        if self._log is not None:
            self._log(f"[{kind} {sign}{time.monotonic() - self._started:f}] {text}\n")

    @staticmethod
    def _arguments(words: list[str], least: int, answer: str) -> str:
        if len(words) < least:
            raise ValueError
        return answer

    def _intercept(self, words: list[str]) -> str:
        path = words[0]
        if path not in ("ioapic", "cpu", "/machine") and not path.startswith(("/machine/", "/objects/")):
            raise _Fail("Unknown device")
        return ""

    # Memory and ports

    def _read(self, words: list[str]) -> str:
        return "0x" + self._bus.read(_number(words[0]), _size(words[1])).hex()

    def _write(self, words: list[str]) -> str:
        size = _size(words[1])
        data = bytes.fromhex(words[2].removeprefix("0x"))[:size]
        self._bus.write(_number(words[0]), data.ljust(size, b"\0"))
        return ""

    def _read_base64(self, words: list[str]) -> str:
        return base64.b64encode(self._bus.read(_number(words[0]), _size(words[1]))).decode()

    def _write_base64(self, words: list[str]) -> str:
        try:
            data = base64.b64decode(words[2], validate=True)
        except binascii.Error as error:
            raise ValueError from error
        self._bus.write(_number(words[0]), data[: _size(words[1])])
        return ""

    def _fill(self, words: list[str]) -> str:
        self._bus.write(_number(words[0]), bytes([_number(words[2]) & 255]) * _size(words[1]))
        return ""

    def _write_number(self, width: int, words: list[str]) -> str:
        value = _number(words[1]) & ((1 << 8 * width) - 1)
        self._bus.write(_number(words[0]), value.to_bytes(width, "little"))
        return ""

    def _read_number(self, width: int, words: list[str]) -> str:
        return f"0x{int.from_bytes(self._bus.read(_number(words[0]), width), 'little'):016x}"

    def _output(self, width: int, words: list[str]) -> str:
        self._bus.output(_number(words[0]) & 0xFFFF, _number(words[1]) & ((1 << 8 * width) - 1))
        return ""

    def _input_port(self, width: int, words: list[str]) -> str:
        return f"0x{self._bus.input(_number(words[0]) & 0xFFFF, width):04x}"

    # Time

    def _step(self, words: list[str]) -> str:
        nanoseconds = int(words[0], 0) if words else None
        return str(self._bus.step(nanoseconds))

    def _set(self, words: list[str]) -> str:
        moment = int(words[0], 0)
        return str(self._bus.step(max(moment - self._clock.monotonic_nanoseconds(), 0)))


def _number(text: str) -> int:
    return int(text, 0) & _ADDRESS


def _size(text: str) -> int:
    size = _number(text)
    if size > LARGEST:
        raise _Fail(f"qmpd reads and writes at most {LARGEST} bytes at once")
    return size


def open_qtest(system: System, dispatcher: SessionDispatcher, label: str) -> Session:
    """A new test program; nothing is said to it first."""
    session = QtestSession(system, dispatcher, label, _log(system))
    dispatcher.add(session)
    return session


def _log(system: System) -> Callable[[str], None] | None:
    name = system.settings.qtest_log
    if name in ("none", "/dev/null") or system.host is None:
        return None
    return system.host.open_log(name)
