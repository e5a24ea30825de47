"""The stub of one machine: bytes from the debugger to commands, answers and stop replies back.

A byte that comes while the machine runs stops it, and is read no further: a debugger sends 0x03 for that.  A packet
that was sent is sent again for each `-` until it is acknowledged by `+`, or another packet begins.  All of that
outlives the debugger's connection: whoever connects next meets what the last one left (QEMU's gdbstub/gdbstub.c,
`gdb_read_byte`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.debugger.commands import execute
from qmpd.debugger.packets import ACKNOWLEDGED, INTERRUPT, REFUSED, Damaged, PacketReader, packet
from qmpd.machine import RunState, ShutdownCause

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.debugger.target import Target

_START = ord("$")
_STOP_AT_END = 3
_TERMINATED = "QEMU: Terminated via GDBstub"


class Stub:
    """What a debugger talks to.

    `listens`: there is a character device.  `send` takes the bytes for the debugger, `hang_up` closes that device.
    """

    __slots__ = ("_reader", "_unacknowledged", "hang_up", "listens", "send", "target")

    def __init__(self, target: Target) -> None:
        self.target = target
        self._reader = PacketReader(target.face.behaviour.packet_size)
        self._unacknowledged = b""
        self.listens = False
        self.send: Callable[[bytes], None] | None = None
        self.hang_up: Callable[[], None] | None = None
        target.tell = self._tell
        target.kill = self._kill

    # The connection

    def start(self) -> None:
        """There is a character device from now on, without a debugger."""
        self.listens = True
        self.target.awaits = False
        self._reader = PacketReader(self.target.face.behaviour.packet_size)

    def stop(self) -> None:
        """There is none any more."""
        self.listens = False
        self.send = None

    def connected(self, send: Callable[[bytes], None]) -> None:
        """A debugger is there: it has the machine's process, and a machine that runs stops."""
        self.send = send
        self.target.attach()
        self.target.interrupt()

    def disconnected(self) -> None:
        """The debugger has gone, and changes nothing by that."""
        self.send = None

    def receive(self, data: bytes) -> None:
        """Take bytes from the debugger, and do what they ask for."""
        target, at = self.target, 0
        while at < len(data) and self.listens:
            target.awaits = False
            byte = data[at]
            if self._unacknowledged and not self._is_new(byte):
                at += 1
            elif target.machine.state is RunState.RUNNING:
                target.awaits = byte == INTERRUPT
                target.interrupt()
                at += 1
            else:
                content, at = self._reader.feed(data, at)
                if isinstance(content, Damaged):
                    self._put(REFUSED)
                elif content is not None:
                    self._put(ACKNOWLEDGED)
                    execute(target, content.decode("latin-1"))

    def _is_new(self, byte: int) -> bool:
        """Whether a byte is none that belongs to the packet that was sent last."""
        if byte == REFUSED[0]:
            self._put(self._unacknowledged)
        elif byte in (ACKNOWLEDGED[0], _START):
            self._unacknowledged = b""
        return byte == _START

    def _tell(self, content: bytes) -> None:
        self._unacknowledged = packet(content)
        self._put(self._unacknowledged)

    def _put(self, data: bytes) -> None:
        if self.send is not None:
            self.send(data)

    # The machine

    def stopped(self, state: RunState) -> None:
        """The machine has stopped (`qmpd.machine.machine.Debugger`)."""
        if self.listens:
            self.target.stopped(state)

    def reset(self) -> None:
        """The machine was reset."""
        self.target.reset()

    def ended(self, status: int) -> None:
        """The process ends with this exit status; a debugger that waits for its machine is told."""
        target, behaviour = self.target, self.target.face.behaviour
        if not self.listens:
            return
        if target.may_tell:
            self._tell(b"W%02x" % (status & 0xFF if behaviour.exit_status_told else 0))
            if behaviour.end_stops and target.machine.state is RunState.RUNNING and target.continued is not None:
                self._tell(b"T%02xthread:%b;" % (_STOP_AT_END, target.name(target.continued)))
        self.stop()

    def _kill(self) -> None:
        """End the machine, as the release does it."""
        machine, way = self.target.machine, self.target.face.behaviour.kill
        machine.report(_TERMINATED)
        if way == "shutdown":
            self.ended(0)
            if self.hang_up is not None:
                self.hang_up()
            machine.system_shutdown(ShutdownCause.GUEST_SHUTDOWN, exit_code=0)
            return
        if way == "told":
            self._tell(b"W00")
        self.stop()
        machine.end(0)
