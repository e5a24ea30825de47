"""A QMP client in the plainest Python, for tests of what it is served and of what is told about it."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType


class Client:
    """A connection, negotiated unless told otherwise; every wait ends after five seconds."""

    def __init__(self, path: str, negotiate: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(5)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")
        if negotiate:
            assert "QMP" in self.message()
            self.execute("qmp_capabilities")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.lines.close()
        self.socket.close()

    def message(self) -> dict[str, Any]:
        line = self.lines.readline()
        assert line, "the server has closed the connection"
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    def send(self, name: str, **arguments: Any) -> None:
        given = {"arguments": arguments} if arguments else {}
        self.socket.sendall(json.dumps({"execute": name, **given}).encode())

    def execute(self, name: str, **arguments: Any) -> Any:
        """The value that a command returns; events that come before are dropped."""
        self.send(name, **arguments)
        while True:
            message = self.message()
            if "event" not in message:
                return message.get("return", message)
