"""The load generator: blocking clients in a process of their own, so that nothing but the server is measured.

Run as a script it takes orders on standard input, one JSON object a line (`{"do": NAME, ...}`), and gives each
one's result as a line on standard output.  Everything that a measurement needs is allocated before it starts,
requests are sent in one piece, replies are not parsed: an answer is a line end.  Nothing of qmpd is imported.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import socket
import sys
import time
from typing import Any

NEGOTIATION = b'{"execute": "qmp_capabilities"}\n'
QUERY_STATUS = b'{"execute": "query-status"}\n'
BUFFER = 1 << 20
RETRY = 0.0002
"""Seconds between two attempts to connect to a server that is not there yet."""

buffer = bytearray(BUFFER)
clients: dict[str, list[socket.socket]] = {}


def request(kind: str, size: int = 0) -> bytes:
    """One line to send.  `size` is the length in bytes of the string in a `large-command`."""
    match kind:
        case "query-status":
            return QUERY_STATUS
        case "query-qmp-schema":
            return b'{"execute": "query-qmp-schema"}\n'
        case "set-action":
            return b'{"execute": "set-action", "arguments": {"reboot": "reset", "panic": "pause"}}\n'
        case "large-command":
            return b'{"execute": "query-status", "id": "%b"}\n' % (b"x" * size)
        case _:
            raise ValueError(f"no request {kind}")


def connect(path: str, patience: float = 30.0) -> socket.socket:
    """A blocking connection, waited for until the server listens.

    :raise TimeoutError: nobody listened within `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
        else:
            client.settimeout(None)
            return client
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody listens on {path}")
        time.sleep(RETRY)


def lines(client: socket.socket, count: int) -> None:
    """Read until `count` lines have ended.

    :raise ConnectionError: the server closed the connection before that.
    """
    while count > 0:
        size = client.recv_into(buffer)
        if size == 0:
            raise ConnectionError("the server closed the connection")
        count -= buffer.count(b"\n", 0, size)


def greeted(path: str, negotiate: bool) -> socket.socket:
    client = connect(path)
    lines(client, 1)
    if negotiate:
        client.sendall(NEGOTIATION)
        lines(client, 1)
    return client


def open_clients(name: str, paths: list[str], greeting: bool = True, negotiate: bool = True) -> None:
    """Open a connection to each path and keep them as `name`."""
    clients[name] = [greeted(path, negotiate) if greeting else connect(path) for path in paths]


def close_clients(name: str) -> None:
    for client in clients.pop(name):
        client.close()


def round_trips(name: str, kind: str, count: int, size: int = 0) -> list[int]:
    """Nanoseconds of each of `count` round trips, one at a time."""
    client = clients[name][0]
    data = request(kind, size)
    send, receive, now = client.sendall, client.recv_into, time.perf_counter_ns
    single = len(data) < 1 << 12 and kind != "query-qmp-schema"
    times = [0] * count
    for index in range(count):
        begin = now()
        send(data)
        if single:
            # A short reply comes in one piece.
            receive(buffer)
        else:
            lines(client, 1)
        times[index] = now() - begin
    return times


def rate(name: str, kind: str, depth: int, seconds: float) -> float:
    """Commands a second where `depth` of them are always sent at once and then waited for."""
    client = clients[name][0]
    batch = request(kind) * depth
    send, receive, count, now = client.sendall, client.recv_into, buffer.count, time.perf_counter
    done = 0
    begin = now()
    end = begin + seconds
    while now() < end:
        send(batch)
        left = depth
        while left > 0:
            left -= count(b"\n", 0, receive(buffer))
        done += depth
    return done / (now() - begin)


def fan_out(name: str, rounds: int) -> list[int]:
    """Nanoseconds from a command that causes one event until every client has it; the first client sends it."""
    everybody = {client.fileno(): client for client in clients[name]}
    sender = clients[name][0]
    now = time.perf_counter_ns
    times = []
    with select.epoll() as poll:
        for number in everybody:
            poll.register(number, select.EPOLLIN)
        # The first two rounds find nothing in the processor's caches.
        for index in range(-2, rounds):
            command = b'{"execute": "%b"}\n' % (b"cont" if index % 2 else b"stop")
            waiting = dict.fromkeys(everybody, 1)
            # It gets the reply, too.
            waiting[sender.fileno()] = 2
            begin = now()
            sender.sendall(command)
            while waiting:
                for number, _ in poll.poll(10.0, 256):
                    waiting[number] -= buffer.count(b"\n", 0, everybody[number].recv_into(buffer))
                    if waiting[number] == 0:
                        del waiting[number]
            times.append(now() - begin)
    return times[2:]


def closed_loop(name: str, seconds: float) -> dict[str, object]:
    """Every client sends a command, and the next as soon as it is answered: commands a second, and each one's time."""
    everybody = {client.fileno(): client for client in clients[name]}
    now = time.perf_counter_ns
    sent = dict.fromkeys(everybody, 0)
    times: list[int] = []
    with select.epoll() as poll:
        for number in everybody:
            poll.register(number, select.EPOLLIN)
        begin = now()
        end = begin + int(seconds * 1e9)
        for number, client in everybody.items():
            sent[number] = now()
            client.send(QUERY_STATUS)
        waiting = len(everybody)
        while waiting:
            for number, _ in poll.poll(10.0, 256):
                client = everybody[number]
                client.recv_into(buffer)
                after = now()
                times.append(after - sent[number])
                if after < end:
                    sent[number] = after
                    client.send(QUERY_STATUS)
                else:
                    waiting -= 1
        passed = now() - begin
    times.sort()
    return {
        "rate": len(times) / passed * 1e9,
        "p50": times[len(times) // 2],
        "p99": times[len(times) * 99 // 100],
    }


def start_to_greeting(command: list[str], path: str) -> int:
    """Nanoseconds from starting a program until it has greeted a client on `path`; then the program is killed."""
    with open(os.devnull, "r+b") as nothing:
        actions = [(os.POSIX_SPAWN_DUP2, nothing.fileno(), number) for number in (0, 1)]
        begin = time.perf_counter_ns()
        process = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        try:
            client = greeted(path, negotiate=False)
            passed = time.perf_counter_ns() - begin
            client.close()
        finally:
            os.kill(process, 9)
            os.waitpid(process, 0)
    if os.path.exists(path):
        os.unlink(path)
    return passed


def create(name: str, folder: str, machines: list[str]) -> list[int]:
    """Nanoseconds from asking a fleet for a machine until it has greeted a client, for each machine."""
    fleet = clients[name][0]
    times = []
    for machine in machines:
        begin = time.perf_counter_ns()
        fleet.sendall(b'{"execute": "create", "arguments": {"name": "%b"}}\n' % machine.encode())
        lines(fleet, 1)
        client = greeted(f"{folder}/{machine}/qmp.sock", negotiate=False)
        times.append(time.perf_counter_ns() - begin)
        client.close()
    return times


ORDERS = {
    "open": open_clients,
    "close": close_clients,
    "round-trips": round_trips,
    "rate": rate,
    "fan-out": fan_out,
    "closed-loop": closed_loop,
    "start": start_to_greeting,
    "create": create,
}


def obey(order: dict[str, Any]) -> object:
    """Carry out one order."""
    # The collector would come at a moment of its own choice.
    gc.collect()
    gc.disable()
    try:
        return ORDERS[order.pop("do")](**order)  # type: ignore[operator]
    finally:
        gc.enable()


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for line in sys.stdin:
        try:
            answer: dict[str, object] = {"result": obey(json.loads(line))}
        except (OSError, ValueError) as error:
            answer = {"error": str(error) or type(error).__name__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
