"""Floor: the least that answers on a Unix socket under trio."""

from __future__ import annotations

import sys

import trio


async def echo(stream: trio.SocketStream) -> None:
    while data := await stream.receive_some(1 << 16):
        await stream.send_all(data)


async def main(path: str) -> None:
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(path)
    listening.listen()
    await trio.serve_listeners(echo, [trio.SocketListener(listening)])


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
