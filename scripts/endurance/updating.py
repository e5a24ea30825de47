"""Well-behaved talk with a server in the middle of a storm, and a live update there."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from endurance import children
from endurance.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from endurance.client import Address

PATIENCE = 15.0
"""Seconds that a child gets."""


class Conversation:
    """One command after another, each with its reply; events are passed over."""

    def __init__(self, address: Address | None, client: socket.socket | None = None) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = client or socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._address = address
        self._buffer = b""
        self._number = 0

    async def begin(self) -> bool:
        """Connect, be greeted, negotiate; False where there is nobody."""
        try:
            if self._address is not None:
                await self._connect(self._address)
            reply = await self.ask("qmp_capabilities")
        except OSError:
            return False
        return reply is not None

    async def _connect(self, address: Address) -> None:
        while True:
            try:
                self.socket.connect(address)
                return
            except BlockingIOError:
                if isinstance(address, str):
                    # So many wait already that one more has to come again.
                    await trio.sleep(0.005)
                    continue
                await trio.lowlevel.wait_writable(self.socket)
                code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, "") from None
                return

    async def ask(self, name: str, **arguments: object) -> dict[str, Any] | None:
        """The reply to a command, without its id; None where the server has closed."""
        self._number += 1
        identity = f"healthy {self._number}"
        message = {"execute": name, "arguments": arguments, "id": identity}
        try:
            self.socket.send(json.dumps(message).encode())
            while True:
                while b"\n" in self._buffer:
                    line, _, self._buffer = self._buffer.partition(b"\n")
                    found = json.loads(line)
                    if found.pop("id", None) == identity:
                        return found if isinstance(found, dict) else None
                await trio.lowlevel.wait_readable(self.socket)
                data = self.socket.recv(1 << 16)
                if not data:
                    return None
                self._buffer += data
        except OSError:
            return None

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        """Be gone."""
        if self.socket.fileno() != -1:
            with suppress(RuntimeError):
                trio.lowlevel.notify_closing(self.socket)
            self.socket.close()


async def update(client: socket.socket, child: str, folder: Path) -> bool:
    """Have the process that serves `client` replaced by a child (one of `endurance.plans.CHILDREN`); whether it was.

    What others ask for may come in between, so no step has to go well; but each has to be answered.
    """
    talk = Conversation(None, client)
    if not await talk.begin():
        return False
    arguments: dict[str, object] = {"timeout": 500 if child in children.NEVER_READY else int(PATIENCE * 1000)}
    name, _, moment = child.partition(" ")
    if moment:
        arguments["program"] = children.failing(folder, name, moment, ROOT)
    elif name in children.NEVER_READY:
        arguments["program"] = children.never_ready(folder, name)
    await talk.ask("live-update-cancel")
    await talk.ask("live-update-prepare", **arguments)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = await talk.ask("live-update-query")
        if status is None or "prepare" not in str(status):
            break
        await trio.sleep(0.01)
    reply = await talk.ask("live-update-commit", timeout=500 if moment else 10_000)
    await talk.ask("live-update-cancel")
    return reply is not None and "return" in reply
