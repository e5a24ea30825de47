"""A supervisor that gives a machine three chances: after the third reboot within a minute it powers it off."""

from __future__ import annotations

import json
import socket
from typing import Any

LIMIT = 3
WINDOW = 60.0
FIRMWARE = 1.0
"""A RESET that comes sooner after another one is the firmware's."""


class Supervisor:
    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rw")
        self.resets: list[float] = []
        self.read()
        self.send("qmp_capabilities")

    def read(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.stream.readline())
        return message

    def send(self, command: str) -> None:
        self.stream.write(json.dumps({"execute": command}) + "\n")
        self.stream.flush()

    def watch(self) -> None:
        """Serve until the machine ends."""
        for line in self.stream:
            message = json.loads(line)
            if message.get("event") == "RESET":
                stamp = message["timestamp"]
                self.reset(stamp["seconds"] + stamp["microseconds"] / 1e6)

    def reset(self, time: float) -> None:
        if self.resets and time - self.resets[-1] < FIRMWARE:
            return
        self.resets = [each for each in self.resets if time - each < WINDOW] + [time]
        if len(self.resets) >= LIMIT:
            self.send("quit")

    def close(self) -> None:
        self.stream.close()
        self.socket.close()
