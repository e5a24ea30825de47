"""Two machines of one computer, each with a client, one of which is to go to the other."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qmpd.testing.vm import VM

PC = ["-machine", "pc,accel=tcg", "-m", "32", "-display", "none", "-nodefaults"]
PATIENCE = 10.0


class Side:
    """One of the two; `events` are those that its client has read and nobody has asked for."""

    def __init__(self, vm: VM) -> None:
        self.vm = vm
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(vm.qmp_paths[0])
        self._lines = self._socket.makefile("rb")
        self._lines.readline()
        self.events: list[str] = []
        self("qmp_capabilities")
        self.capabilities("events")

    def close(self) -> None:
        """Leave."""
        self._lines.close()
        self._socket.close()

    def _read(self) -> dict[str, Any]:
        line = self._lines.readline()
        assert line, f"the machine has ended after {self.events}"
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self.events.append(_short(message))
        return message

    def __call__(self, command: str, **arguments: Any) -> Any:
        """What a command returns, or the text of its error."""
        return self.say(command, {name.replace("_", "-"): value for name, value in arguments.items()})

    def say(self, command: str, arguments: dict[str, Any]) -> Any:
        """The same, with the names as they are."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while "event" in (reply := self._read()):
            pass
        return reply["return"] if "return" in reply else reply["error"]["desc"]

    def give(self, name: str, number: int) -> Any:
        """Give it an open file, by this name."""
        text = json.dumps({"execute": "getfd", "arguments": {"fdname": name}})
        socket.send_fds(self._socket, [text.encode()], [number])
        return self._read()["return"]

    def capabilities(self, *names: str) -> Any:
        """Set capabilities."""
        return self("migrate-set-capabilities", capabilities=[{"capability": each, "state": True} for each in names])

    def until(self, *wanted: str) -> list[str]:
        """The events up to one of these: a status of the migration, or another event's name."""
        while not any(each in wanted for each in self.events):
            self._read()
        last = next(number for number, each in enumerate(self.events) if each in wanted)
        found, self.events = self.events[: last + 1], self.events[last + 1 :]
        return found

    def is_at_end(self) -> bool:
        """Whether the machine ends."""
        try:
            while self._read():
                pass
        except AssertionError:
            return True
        return False

    @property
    def state(self) -> str:
        """The run state."""
        return str(self("query-status")["status"])

    @property
    def migration(self) -> dict[str, Any]:
        """What query-migrate tells."""
        found: dict[str, Any] = self("query-migrate")
        return found


def _short(event: dict[str, Any]) -> str:
    if event["event"] == "MIGRATION":
        return str(event["data"]["status"])
    return "pass" if event["event"] == "MIGRATION_PASS" else str(event["event"])


def without_passes(events: list[str]) -> list[str]:
    """The events but those that tell how often memory was looked at."""
    return [each for each in events if each != "pass"]


class Sides:
    """Starts machines, and closes what their clients have open."""

    def __init__(self, qmpd: Callable[..., VM], folder: Path) -> None:
        self._qmpd = qmpd
        self._folder = folder
        self.sides: list[Side] = []

    def one(self, release: str, *options: str, **more: Any) -> Side:
        """One machine with a client."""
        side = Side(self._qmpd(command_line=[*PC, *options], release=release, **more))
        self.sides.append(side)
        return side

    def pair(self, release: str, *target: str, **more: Any) -> tuple[Side, Side, str]:
        """A machine, another that waits for it, and where that waits."""
        place = f"unix:{self._folder}/m.sock"
        there = self.one(release, *target, "-incoming", place, **more)
        return self.one(release, **more), there, place
