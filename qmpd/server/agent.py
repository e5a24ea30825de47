"""A guest agent by itself, on a socket: for clients of the agent alone (`qmpd agent`)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from qmpd.block.executor import AtOnce
from qmpd.guest.agent.agent import Agent
from qmpd.guest.agent.files import FolderFiles
from qmpd.guest.agent.model import Disk
from qmpd.monitor.agent import AgentDialect
from qmpd.server import log
from qmpd.server.computer import ThisComputer
from qmpd.server.listener import Listener

if TYPE_CHECKING:
    import socket

    from qmpd.qapi import Release

_CHUNK = 1 << 16


class LonelyFacts:
    """A guest without a machine (`qmpd.guest.agent.model.Facts`); it is `off` once it was told to power off."""

    processors = 2
    memory = 4 << 30
    cards = ("52:54:00:12:34:56",)
    disks = (Disk("vda", "virtio", address=(0, 2, 0), size=20 << 30),)

    def __init__(self) -> None:
        self.off = False

    def now(self) -> int:
        """See `Facts`."""
        return time.time_ns()

    def running(self) -> int:
        """See `Facts`."""
        return time.monotonic_ns()

    def shut_down(self, mode: str) -> None:
        """See `Facts`: the process ends, as the machine would; one that reboots is there at once."""
        log.error(f"the guest was told to shut down: {mode}")
        self.off = mode != "reboot"

    def suspend(self, *, to_disk: bool) -> None:
        """See `Facts`: nobody is there to wake it, so it goes on."""
        log.error(f"the guest was told to sleep, to {'disk' if to_disk else 'memory'}")

    def set_clock(self, offset: int) -> None:
        """See `Facts`: there is no other clock than the guest's own."""


async def serve(release: Release, listener: Listener, root: str | None, blocked: frozenset[str]) -> None:
    """Answer one client after another, until the guest powers off or the task is cancelled.

    The guest's files begin with those of the folder `root`, if there is one; `blocked` are commands that it refuses.
    """
    owed: list[bytes] = []
    facts = LonelyFacts()
    files = None if root is None else FolderFiles(ThisComputer(), root)
    agent = Agent(release.agent, facts, files, blocked)
    dialect = AgentDialect(release, agent, AtOnce(), lambda reply, name: owed.append(reply))
    while not facts.off and (accepted := await listener.accept("a client of the agent")) is not None:
        with accepted[0] as client:
            await _converse(client, dialect, owed, facts)


async def _converse(client: socket.socket, dialect: AgentDialect, owed: list[bytes], facts: LonelyFacts) -> None:
    try:
        while not facts.off:
            await trio.lowlevel.wait_readable(client)
            data = client.recv(_CHUNK)
            if not data:
                return
            dialect.receive(data)
            rest = memoryview(b"".join(owed))
            owed.clear()
            while rest:
                await trio.lowlevel.wait_writable(client)
                rest = rest[client.send(rest) :]
    except OSError:
        return
