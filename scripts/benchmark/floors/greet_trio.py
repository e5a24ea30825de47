"""Floor: the least that starts, listens on a Unix socket and greets who comes, under trio."""

from __future__ import annotations

import sys

import trio

GREETING = (
    b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}\r\n'
)


async def greet(stream: trio.SocketStream) -> None:
    await stream.send_all(GREETING)
    await stream.receive_some(1)


async def main(path: str) -> None:
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(path)
    listening.listen()
    await trio.serve_listeners(greet, [trio.SocketListener(listening)])


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
