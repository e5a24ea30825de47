"""How long a guest stands still while it moves from one process to another on the same computer."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

from benchmark.result import Aim, Row
from benchmark.servers import QEMU, QMPD, LoadError, Server, qmpd_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmark.measures import Bench

_PATIENCE = 20.0
_WARM = 0.5
"""Seconds in which the firmware runs, before the guest moves."""
_MACHINE = ("-machine", "pc", "-m", "128", "-nodefaults", "-display", "none")


class _Monitor:
    """A client that reads events."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE)
        end = time.monotonic() + _PATIENCE
        while self._socket.connect_ex(path):
            if time.monotonic() > end:
                raise LoadError("nobody listens")
            time.sleep(0.005)
        self._file = self._socket.makefile("r")
        self._file.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> None:
        """Execute a command."""
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": command, "arguments": given}).encode())
        while "event" in (message := json.loads(self._file.readline())):
            pass
        if "error" in message:
            raise LoadError(f"{command}: {message['error']['desc']}")

    def moment(self, event: str) -> float:
        """The time of the next event of this name, in seconds."""
        while True:
            line = self._file.readline()
            if not line:
                raise LoadError(f"no {event} comes")
            message = json.loads(line)
            if message.get("event") == event:
                at = message["timestamp"]
                return float(at["seconds"] + at["microseconds"] / 1e6)

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def downtime(bench: Bench) -> Iterator[Row]:
    """From STOP at one process to RESUME at the other."""

    def measure(subject: str) -> float:
        here, there, way = bench.path(), bench.path(), bench.path()
        with Server(_command(bench, subject, here, "-S")) as _, Server(
            _command(bench, subject, there, "-incoming", "defer")
        ) as _:
            source, target = _Monitor(here), _Monitor(there)
            try:
                source.ask("cont")
                time.sleep(_WARM)
                target.ask("migrate-incoming", uri=f"unix:{way}")
                source.ask("migrate", uri=f"unix:{way}")
                return target.moment("RESUME") - source.moment("STOP")
            finally:
                source.close()
                target.close()

    values = bench.rounds(list(bench.programs.subjects), measure, bench.scale.moves)
    yield Row("downtime of a migration", "ms", values, [Aim(1.0, QEMU)])


def _command(bench: Bench, subject: str, path: str, *options: str) -> list[str]:
    program = [*qmpd_command(), "serve"] if subject == QMPD else [str(bench.programs.qemu)]
    return [*program, *_MACHINE, "-qmp", f"unix:{path},server=on,wait=off", *options]
