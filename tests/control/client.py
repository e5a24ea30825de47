"""A client of the control sockets, and of QMP, that blocks; it can send and read whatever the sockets can."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from qmpd.control.spelling import read, spell

PATIENCE = 20.0
"""Seconds until what should happen is given up."""


@dataclass(frozen=True)
class Nested:
    """Stands for a value that is nested this deep."""

    depth: int

    def value(self) -> object:
        value: object = 1
        for level in range(self.depth):
            value = [value] if level % 2 else {"a": value}
        return value


def expanded(value: Any) -> Any:
    """The same, with what stands for another value replaced by it."""
    if isinstance(value, Nested):
        return value.value()
    if isinstance(value, dict):
        return {name: expanded(member) for name, member in value.items()}
    return [expanded(item) for item in value] if isinstance(value, list) else value


class Client:
    """A client that has negotiated."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.lines = self.socket.makefile("rb")
        try:
            self.socket.connect(path)
            self.lines.readline()
            self.ask({"execute": "qmp_capabilities"})
        except BaseException:
            self.close()
            raise

    def ask(self, message: object) -> dict[str, Any]:
        """The reply; ConnectionError where the connection has come to an end."""
        self.socket.sendall(spell(expanded(message)).encode() + b"\n")
        while True:
            line = self.lines.readline()
            if not line.endswith(b"\n"):
                raise ConnectionError
            reply = read(line)
            if isinstance(reply, dict) and reply.keys() & {"return", "error"}:
                assert "defect of qmpd" not in spell(reply), reply
                return reply

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.lines.close()
        self.socket.close()
