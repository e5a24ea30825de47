"""The guests' agents of a whole fleet, each asked once a second by a client of its own: no reply may be missing."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import trio

PATIENCE = 15.0
"""Seconds after which a reply is lost."""
PERIOD = 1.0
QUESTIONS = ("guest-ping", "guest-get-time", "guest-network-get-interfaces", "guest-get-osinfo", "guest-get-fsinfo")
"""What is asked of an agent: what Proxmox and Incus ask all the time, and libvirt now and then."""
_PORT = "org.qemu.guest_agent.0"
_ERRORS = (OSError, EOFError, ValueError, trio.TooSlowError, trio.BrokenResourceError)


class Polling:
    """What came of it: how many replies, how long each took in seconds, and what was wrong."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.wrong: list[str] = []

    def summary(self, agents: int) -> str:
        """The counts, in a line."""
        worst = max(self.waits, default=math.nan)
        return (
            f"{agents} agents, each asked every {PERIOD:g} s: {len(self.waits)} replies, the latest after"
            f" {worst * 1000:.1f} ms; {len(self.wrong)} lost or wrong\n"
        )


class _Client:
    """A client that sends lines and waits for lines."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._rest = b""

    async def line(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            data = await self._stream.receive_some(1 << 16)
            if not data:
                raise EOFError("the connection has ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    async def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The reply to a command, which has no event before it that matters."""
        await self._stream.send_all(json.dumps({"execute": command, "arguments": arguments}).encode())
        while "event" in (found := await self.line()):
            pass
        if "return" not in found:
            raise EOFError(f"{command}: {found}")
        return found

    async def poll(self, command: str, identity: int) -> None:
        """Ask an agent; its reply has the same id."""
        await self._stream.send_all(json.dumps({"execute": command, "id": identity}).encode() + b"\n")
        found = await self.line()
        if found.get("id") != identity or "return" not in found:
            raise EOFError(f"{command}, number {identity}: {json.dumps(found)[:200]}")

    async def close(self) -> None:
        await self._stream.aclose()


async def _connect(path: str) -> _Client:
    return _Client(await trio.open_unix_socket(path))


def places(folder: str) -> list[Path]:
    """The folders of a fleet's machines."""
    return sorted(Path(folder).glob("vm-*"))


async def prepare(machines: list[Path]) -> list[str]:
    """Put the agent of each of these machines behind a socket; the paths of these sockets."""
    found = []
    for place in machines:
        path = str(place / "agent.sock")
        monitor = await _connect(str(place / "qmp.sock"))
        await monitor.line()
        await monitor.ask("qmp_capabilities")
        address = {"type": "unix", "data": {"path": path}}
        backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
        await monitor.ask("chardev-add", id="agent", backend=backend)
        await monitor.ask("device_add", driver="virtio-serial-pci", id="ports")
        await monitor.ask("device_add", driver="virtserialport", id="port", chardev="agent", name=_PORT)
        await monitor.close()
        found.append(path)
    return found


class Fleet:
    """A fleet of so many machines with agents, in a process of its own; a context manager that ends it."""

    def __init__(self, agents: int) -> None:
        self.agents = agents
        self.polling = Polling()

    def __enter__(self) -> Fleet:
        self._folder = tempfile.TemporaryDirectory()
        program = "import sys; from qmpd.cli.main import main; sys.exit(main())"
        options = ["fleet", "--count", str(self.agents), "--dir", self._folder.name, "-guest", "agent=on"]
        line = [sys.executable, "-c", program, *options]
        self._process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def end(self) -> None:
        """End it; again, nothing happens."""
        self._process.terminate()
        self._process.wait()

    def __exit__(self, *_: object) -> None:
        self.end()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._folder.cleanup()

    async def ask(self, seconds: float) -> None:
        """Ask all agents once a second, for so many seconds; what is wrong is told by `polling`."""
        try:
            await poll(await prepare(places(self._folder.name)), seconds, self.polling)
        except _ERRORS as error:
            self.polling.wrong.append(f"an agent cannot be had: {type(error).__name__} {error}")
        if not self.polling.waits:
            self.polling.wrong.append("no agent has answered")


async def poll(paths: list[str], seconds: float, polling: Polling, seed: int = 0) -> None:
    """Ask each agent once a second, none at the same moment as the next, for so many seconds."""
    chance = random.Random(seed)
    end = trio.current_time() + seconds

    async def one(path: str, after: float, order: random.Random) -> None:
        begun = trio.current_time() + after
        number = 0
        try:
            client = await _connect(path)
            while (moment := begun + number * PERIOD) < end:
                await trio.sleep_until(moment)
                since = trio.current_time()
                with trio.fail_after(PATIENCE):
                    await client.poll(order.choice(QUESTIONS), number)
                polling.waits.append(trio.current_time() - since)
                number += 1
            await client.close()
        except _ERRORS as error:
            polling.wrong.append(f"{path}, poll {number}: {type(error).__name__} {error}")

    async with trio.open_nursery() as nursery:
        for path in paths:
            nursery.start_soon(one, path, chance.random() * PERIOD, random.Random(chance.random()))
