"""Clients that never pause while the process behind them is replaced again and again.

    python -m tests.live_update.load --clients 100 --updates 20

Each client keeps some numbered commands under way and wants every reply exactly once, in order and byte for byte;
all of them want the same events with the same timestamps.  What is measured is how long a client that has commands
under way gets nothing: while the process is replaced, and otherwise.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
import time
from collections import deque
from pathlib import Path

import trio

from tests.live_update.process import PATIENCE, Caller, Process, running

UNKNOWN = b'{"error": {"class": "CommandNotFound", "desc": "The command no-such-command has not been found"}}'

_STANDSTILL = re.compile(r"the machine stood still for ([\d.]+) ms")


class LoadClient:
    """One client.  `waits` are the seconds between two arrivals while something was under way, and when."""

    def __init__(self, caller: Caller, number: int, depth: int, pause: float = 0.0) -> None:
        self.stream = caller.stream
        self.buffer = caller.buffer
        self.depth = depth
        self.pause = pause
        self.random = random.Random(number)
        self.sent = 0
        self.answered = 0
        self.expected: deque[bytes] = deque()
        self.events: list[bytes] = []
        self.waits: list[tuple[float, float]] = []
        self.stopping = False
        self.last = False

    def _next(self) -> bytes:
        """A command, and what is to be its answer."""
        number = self.sent = self.sent + 1
        kind = self.random.randrange(4)
        if kind == 0:
            self.expected.append(b'{"id": {"text": "\\u00E9", "n": %d}, ' % number + UNKNOWN[1:])
            return f'{{"execute": "no-such-command", "id": {{"text": "é", "n": {number}}}}}'.encode()
        self.expected.append(b'{"return": {}, "id": %d}' % number)
        return b'{"execute": "query-name", "id": %d}\n' % number

    async def run(self) -> None:
        """Ask until `stopping` is set, then once more, and wait for all answers."""
        last = time.perf_counter()
        while True:
            commands = b""
            while len(self.expected) < self.depth and not self.last:
                commands += self._next()
                # What is asked once everybody else is done is answered after the last event.
                self.last = self.stopping
            if commands:
                if len(self.expected) == commands.count(b'"execute"'):
                    last = time.perf_counter()
                await self._send(commands)
            if not self.expected:
                return
            with trio.fail_after(PATIENCE):
                data = await self.stream.receive_some(1 << 16)
            now = time.perf_counter()
            self.waits.append((now - last, now))
            last = now
            assert data, "the connection was closed"
            self._take(data)
            if self.pause and not self.expected:
                await trio.sleep(self.pause)

    async def _send(self, commands: bytes) -> None:
        # In two pieces now and then, so that the server has half a message.
        if self.random.randrange(4) == 0:
            middle = len(commands) // 2
            await self.stream.send_all(commands[:middle])
            commands = commands[middle:]
        await self.stream.send_all(commands)

    def _take(self, data: bytes) -> None:
        lines = (self.buffer + data).split(b"\r\n")
        self.buffer = lines.pop()
        for line in lines:
            if line.startswith(b'{"timestamp"'):
                self.events.append(line)
            else:
                wanted = self.expected.popleft()
                assert line == wanted, f"{line!r} instead of {wanted!r}"
                self.answered += 1


class Result:
    """What a run has found, in numbers; times in seconds."""

    def __init__(self, clients: list[LoadClient], updates: list[tuple[float, float]], server: Process) -> None:
        self.clients = len(clients)
        self.updates = len(updates)
        self.standstills = sorted(float(text) / 1e3 for text in _STANDSTILL.findall(server.errors.read_text()))
        self.answers = sum(client.answered for client in clients)
        self.events = len(clients[0].events)
        waits = [wait for client in clients for wait in client.waits]
        during = [[wait for wait, at in waits if at >= begin and at - wait <= end] for begin, end in updates]
        # Where nobody waited for anything just then, nobody noticed.
        self.gaps = sorted(max(each, default=0.0) for each in during)
        self.longest_otherwise = max(
            wait for wait, at in waits if not any(at >= begin and at - wait <= end for begin, end in updates)
        )

    def __str__(self) -> str:
        return (
            f"live update under load: {self.clients} clients, {self.updates} updates, {self.answers} answers in order, "
            f"{self.events} events each; the machine stood still for {_range(self.standstills)}; longest wait of any "
            f"client at an update: {_range(self.gaps)}, between updates: {self.longest_otherwise * 1e3:.1f} ms"
        )


def _range(times: list[float]) -> str:
    return f"{times[len(times) // 2] * 1e3:.1f} ms (median; worst {times[-1] * 1e3:.1f} ms)"


async def load(server: Process, clients: int, updates: int, depth: int, pause: float = 0.0) -> Result:
    """Put `server` under load and have it replaced `updates` times.

    :raise AssertionError: a reply or an event is missing, doubled or out of order.
    """
    driver = await server.connect()
    loads = [LoadClient(await server.connect(), number, depth, pause) for number in range(clients)]
    times: list[tuple[float, float]] = []
    served_by = {server.pid}
    async with trio.open_nursery() as nursery:
        for client in loads:
            nursery.start_soon(client.run)
        for _ in range(updates):
            await driver.returned("live-update-prepare", timeout=60_000)
            await driver.returned("stop")
            await driver.event("INIT_COMPLETE")
            await driver.returned("system_powerdown")
            await driver.returned("cont")
            begin = time.perf_counter()
            assert await driver.returned("live-update-commit", timeout=20_000) == {}
            times.append((begin, time.perf_counter()))
            await driver.returned("system_powerdown")
            driver.events.clear()
            served_by.add(server.pid)
        await driver.returned("live-update-query")
        for client in loads:
            client.stopping = True
    for client in loads:
        assert client.events == loads[0].events, "the clients have seen different events"
        assert client.answered == client.sent
    names = [line.split(b'"event": "')[1].split(b'"')[0] for line in loads[0].events]
    assert names.count(b"INIT_COMPLETE") == names.count(b"STOP") == names.count(b"RESUME") == updates
    assert names.count(b"POWERDOWN") == 2 * updates
    assert len(names) == 5 * updates
    assert len(served_by) == updates + 1
    return Result(loads, times, server)


async def main(clients: int, updates: int, depth: int, pause: float) -> None:
    """Run it, and print what was found."""
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), "-v") as server:
            print(await load(server, clients, updates, depth, pause))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--depth", type=int, default=8, help="commands that each client keeps under way")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that each rests once all is answered")
    options = parser.parse_args()
    trio.run(main, options.clients, options.updates, options.depth, options.pause)
