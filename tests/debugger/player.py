"""Plays scenarios over real sockets to a machine that is served in the test's own process.

Its clock stands still, and its tasks and the test's take turns on one event loop: a step ends when nothing has come for
some passes of the loop.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import trio

from qmpd.cli import serve
from qmpd.schedule.clock import VirtualClock
from qmpd.server.virtual_machine import VirtualMachine
from tests.debugger.scenarios import comparable, is_qmp, message, raw

if TYPE_CHECKING:
    from collections.abc import Sequence

IDLE = 16
"""Passes of the event loop without a byte, after which a server has nothing more to say by itself."""

_LISTENING = "server=on,wait=off"


class Served:
    """A machine, a debugger and a QMP client at it."""

    def __init__(self, release: str, options: Sequence[str], folder: str, *, debugger: bool = True) -> None:
        parsed = serve.parse([
            *("--release", release, *options, "-qmp", f"unix:{folder}/qmp.sock,{_LISTENING}"),
            *(("-gdb", f"unix:{folder}/gdb.sock,{_LISTENING}") if debugger else ()),
        ])
        assert parsed is not None
        self.folder = folder
        self.clock = VirtualClock()
        self.vm = VirtualMachine(parsed[0], self.clock)
        self.vm.listen()
        self.status: int | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._debugger: socket.socket | None = None
        self._qmp: socket.socket | None = None
        self._lines = b""

    async def run(self) -> None:
        try:
            with self._scope:
                self.status = await self.vm.run()
        finally:
            self._ended.set()

    async def begin(self) -> None:
        """Connect the QMP client."""
        self._qmp = self._connect("qmp.sock")
        self._qmp.send(b'{"execute": "qmp_capabilities"}')
        await self._receive()

    def _connect(self, name: str) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(os.path.join(self.folder, name))
        client.setblocking(False)
        return client

    async def step(self, step: str) -> tuple[str, list[str]]:
        """Take one step: what the debugger got, and the lines over QMP."""
        if step == "connect":
            self._debugger = self._connect("gdb.sock")
        elif step == "close":
            if self._debugger is not None:
                self._debugger.close()
                self._debugger = None
        elif is_qmp(step):
            self._send(self._qmp, message(step, self.folder))
        else:
            self._send(self._debugger, raw(step))
        got, lines = await self._receive()
        if step[0] == "$" and b"$" in got:
            self._send(self._debugger, b"+")
            await self._receive()
        return got.decode("latin-1"), [comparable(line) for line in lines]

    def _send(self, client: socket.socket | None, data: bytes) -> None:
        try:
            if client is not None:
                client.send(data)
        except OSError:
            pass  # it has ended; what it said before is still there to be read

    async def _receive(self) -> tuple[bytes, list[str]]:
        got, quiet = b"", 0
        ended: set[socket.socket] = set()
        while quiet < IDLE:
            await trio.lowlevel.checkpoint()
            quiet += 1
            for client in (self._qmp, self._debugger):
                if client is None or client in ended:
                    continue
                try:
                    data = client.recv(1 << 16)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                quiet = 0
                if not data:
                    ended.add(client)
                if client is self._qmp:
                    self._lines += data
                else:
                    got += data or b"<end>"
        *whole, self._lines = self._lines.split(b"\r\n")
        return got, [line.decode() for line in whole]

    async def end(self) -> int | None:
        """The exit status where it has ended by itself; it is ended otherwise."""
        status = self.status
        self._scope.cancel()
        await self._ended.wait()
        for client in (self._qmp, self._debugger):
            if client is not None:
                client.close()
        return status
