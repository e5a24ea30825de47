"""Clients that are not polite, in a process of their own: they ask for more and more, whether or not they read.

    crowd.py PATH KIND

They connect to the socket, print a line, and go on until they are ended.  Nothing of qmpd is imported.
"""

from __future__ import annotations

import select
import socket
import sys

COUNT = 20
BATCH = 200_000
"""Bytes that are asked for in one go, about."""

SCHEMA = b'{"execute": "query-qmp-schema", "id": 1}\n'
ERROR = b'{"execute": "no-such-command"}\n'
GARBAGE = b"{{{{]]]] \x01 'a' [1, 2,,,\n"
NESTED = b'{"execute": "query-name", "id": ' + b'[{"a": ' * 100 + b"1" + b"}]" * 100 + b"}\n"

KINDS = {
    "silent": ([SCHEMA], False),
    "large": ([SCHEMA], True),
    "odd": ([ERROR, GARBAGE, NESTED], True),
}
"""What the clients ask for, in turn, and whether they read the replies; those of `half` are `silent` and `large`."""


class Member:
    """One client."""

    def __init__(self, path: str, asks: bytes, reads: bool) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.recv(1 << 16)
        self.socket.sendall(b'{"execute": "qmp_capabilities"}')
        self.socket.recv(1 << 16)
        self.socket.setblocking(False)
        self.reads = reads
        self._asks = asks * (BATCH // len(asks) + 1)
        self._rest = self._asks

    def act(self, happened: int) -> None:
        """Send what the socket takes, read what it has.

        :raise OSError: the server has closed the connection.
        """
        try:
            if happened & select.EPOLLIN and not self.socket.recv(1 << 18):
                raise ConnectionError
            if happened & select.EPOLLOUT:
                self._rest = self._rest[self.socket.send(self._rest) :] or self._asks
        except BlockingIOError:
            pass


def members(path: str, kind: str) -> list[Member]:
    """The clients of one kind."""
    kinds = ["silent", "large"] if kind == "half" else [kind]
    found = []
    for number in range(COUNT):
        asks, reads = KINDS[kinds[number % len(kinds)]]
        found.append(Member(path, asks[number // len(kinds) % len(asks)], reads))
    return found


def main(path: str, kind: str) -> None:
    """Go on until somebody ends this process; one that is disconnected is left out."""
    everybody = {member.socket.fileno(): member for member in members(path, kind)}
    with select.epoll() as poll:
        for number, member in everybody.items():
            poll.register(number, select.EPOLLOUT | (select.EPOLLIN if member.reads else 0))
        print("at work", flush=True)
        while everybody:
            for number, happened in poll.poll():
                try:
                    everybody[number].act(happened)
                except OSError:
                    poll.unregister(number)
                    everybody.pop(number).socket.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
