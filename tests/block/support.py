"""A VM with a disk, and a client of its QMP socket."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from qmpd.testing import VM, VMFactory

    Talk = Callable[[VM], "Monitor"]


class Monitor:
    """A client that has negotiated; calling it executes a command, `events` are those that came meanwhile."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(path)
        # For reading alone: writing to a text file throws away what it has read ahead.
        self._file = self._socket.makefile("r")
        self.events: list[dict[str, Any]] = []
        self._file.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, /, **arguments: object) -> dict[str, Any]:
        given = {name.rstrip("_").replace("_", "-"): value for name, value in arguments.items()}
        if command in ("block_resize", "block_set_io_throttle"):
            given = {("node-name" if name == "node_name" else name): value for name, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": command, "arguments": given}).encode() + b"\n")
        while True:
            message: dict[str, Any] = json.loads(self._file.readline())
            if "event" not in message:
                return message
            self.events.append(message)

    def concluded(self, job: str = "j") -> dict[str, Any]:
        """What query-jobs tells of a job once that is concluded."""

        def asked() -> dict[str, Any] | None:
            jobs: list[dict[str, Any]] = self("query-jobs")["return"]
            return next((each for each in jobs if each["id"] == job and each["status"] == "concluded"), None)

        return wait_until(asked)

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def human(self, line: str) -> str:
        reply = self("human-monitor-command", command_line=line)
        text: str = reply["return"]
        return text.replace("\r\n", "\n")


def disk(
    qmpd: VMFactory, path: Path, *, kind: str = "qcow2", device: str = "virtio-blk-pci,drive=n0,id=d0",
    clock: str = "virtual", more: Sequence[str] = (), node: str | None = None,
) -> VM:  # fmt: skip
    """A VM whose guest runs, with a disk `d0` on node `n0`."""
    node = node or f"driver={kind},node-name=n0,discard=unmap,file.driver=file,file.filename={path},file.node-name=f0"
    command_line = ["-machine", "pc", "-nodefaults", "-blockdev", node, "-device", device, *more]
    return qmpd(command_line=command_line, guest="", clock=clock)
