"""The least of a QMP client that an orchestrator gets by with; the stories' clients are built on it."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

Message = dict[str, Any]


class Monitor:
    """A connection that executes one command after another; events that come meanwhile wait in `events`."""

    def __init__(self, path: str, patience: float = 5.0) -> None:
        """Connect and negotiate; every wait ends after `patience` seconds."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(patience)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")
        self.events: list[Message] = []
        try:
            self.greet()
            self.execute("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.lines.close()
        self.socket.close()

    def read(self) -> Message:
        """The next message.

        :raise EOFError: the connection is closed.
        """
        line = self.lines.readline()
        if not line:
            raise EOFError("the connection is closed")
        message: Message = json.loads(line)
        return message

    def greet(self) -> None:
        """Read the greeting, and keep what comes before it."""
        while "QMP" not in (message := self.read()):
            self.events.append(message)

    def send(self, name: str, **arguments: Any) -> None:
        self.socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode())

    def execute(self, name: str, **arguments: Any) -> Any:
        """The value that a command returns."""
        self.send(name, **arguments)
        while "event" in (message := self.read()):
            self.events.append(message)
        return message["return"]

    def take_events(self) -> list[Message]:
        """The events that have come by now."""
        self.execute("query-status")
        events, self.events = self.events, []
        return events


def seconds(event: Message) -> float:
    """When an event was emitted, in seconds since the epoch."""
    timestamp: dict[str, int] = event["timestamp"]
    return timestamp["seconds"] + timestamp["microseconds"] / 1_000_000
