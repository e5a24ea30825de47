"""A debugger that is nothing but a socket, and VMs for it."""

from __future__ import annotations

import select
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from qmpd.debugger.packets import packet
from qmpd.testing import start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qmpd.testing.vm import VM

PATIENCE = 5.0


def _connect(address: Path | tuple[str, int]) -> socket.socket:
    """A connection, as soon as somebody listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        client = socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX)
        client.settimeout(PATIENCE)
        try:
            client.connect(address if isinstance(address, tuple) else str(address))
            return client
        except OSError:
            client.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class Debugger:
    """A connection to a stub, packet by packet."""

    def __init__(self, address: Path | tuple[str, int]) -> None:
        self.socket = _connect(address)
        self._came = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def packet(self) -> str:
        """The content of the next packet, which is acknowledged; acknowledgements before it are dropped."""
        while b"#" not in self._came[:-2]:
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError(self._came)
            self._came += data
        start, end = self._came.index(b"$"), self._came.index(b"#")
        content = self._came[start + 1 : end]
        assert self._came[start : end + 3] == packet(content)
        self._came = self._came[end + 3 :]
        with suppress(BrokenPipeError):  # the other side may have ended with this packet
            self.send(b"+")
        return content.decode("latin-1")

    def ask(self, content: str) -> str:
        """The answer to a packet."""
        self.tell(content)
        return self.packet()

    def tell(self, content: str) -> None:
        """Send a packet whose answer is read later, if there is any."""
        self.send(packet(content.encode("latin-1")))

    def is_quiet(self, seconds: float = 0.0) -> bool:
        """Whether nothing but acknowledgements has come."""
        while select.select([self.socket], [], [], seconds)[0]:
            self._came += self.socket.recv(1 << 16)
        return not self._came.strip(b"+")

    def close(self) -> None:
        self.socket.close()


@contextmanager
def debugged(folder: Path, *options: str, **more: Any) -> Iterator[tuple[VM, Debugger]]:
    """A VM that a debugger is attached to; its clock stands still."""
    path = folder / "gdb.sock"
    device = ["-gdb", f"unix:{path},server=on,wait=off"]
    with start(options=[*device, *options], **{"clock": "virtual", **more}) as vm:
        debugger = Debugger(path)
        try:
            # It has been let in once it is answered; some releases tell before that the machine has stopped.
            debugger.tell("qC")
            while not debugger.packet().startswith("QC"):
                pass
            yield vm, debugger
        finally:
            debugger.close()
