"""One machine, thousands of commands of several clients at once: every reply comes once, and in its order.

Each client has its own way of asking; one of them stops the machine and lets it go on all the time, which all hear.
"""

from __future__ import annotations

import json
import socket
from random import Random
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.clients.programs import PATIENCE, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Request = dict[str, Any]

SCHEMA = "query-qmp-schema"
COMMANDS = ("query-name", "query-status", "query-version", "no-such-command", "query-name", "query-commands")
MOVES = 400
"""How often the machine stops, and goes on."""
LAST = "last"


class Asker(Thread):
    """A client in a thread of its own; `wrong` is what it found wrong."""

    out_of_band = False

    def __init__(self, path: Path, number: int, count: int) -> None:
        super().__init__(daemon=True)
        self.random = Random(number)
        self.count = count
        self.wrong: BaseException | None = None
        self.events: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb", 1 << 16)
        self._lines.readline()
        enable = {"enable": ["oob"]} if self.out_of_band else {}
        self.send(self.spelled({"execute": "qmp_capabilities", "arguments": enable}))
        assert self._lines.readline() == b'{"return": {}}\r\n'

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def spelled(self, request: Request) -> bytes:
        return json.dumps(request).encode() + b"\n"

    def request(self, number: int) -> Request:
        return {"execute": self.random.choice(COMMANDS), "id": number}

    def reply(self) -> Request:
        """The next reply; events are kept."""
        while "event" in (message := json.loads(self._lines.readline() or b"null")):
            self.events.append(message["event"])
        return dict(message)

    def expect(self, requests: Sequence[Request]) -> None:
        """One reply for each, in this order."""
        for request in requests:
            reply = self.reply()
            assert reply["id"] == request["id"], f"{reply} instead of the reply to {request}"
            assert ("error" in reply) == (request.get("execute") == "no-such-command"), reply

    def run(self) -> None:
        try:
            self.ask()
        except BaseException as error:
            self.wrong = error

    def ask(self) -> None:
        """One command after another."""
        for number in range(self.count):
            request = self.request(number)
            self.send(self.spelled(request))
            self.expect([request])

    def bursts(self, most: int) -> Iterator[list[Request]]:
        number = 0
        while number < self.count:
            size = min(self.random.randint(1, most), self.count - number)
            yield [self.request(number + place) for place in range(size)]
            number += size

    def hear_the_last(self) -> None:
        """All that was told until now."""
        self.send(self.spelled({"execute": "query-name", "id": LAST}))
        assert self.reply()["id"] == LAST


class Mover(Asker):
    """It stops the machine and lets it go on; its commands are the only ones that are told of."""

    def request(self, number: int) -> Request:
        return {"execute": ("stop", "cont")[number % 2], "id": number}


class InBursts(Asker):
    """Many commands in one write."""

    def ask(self) -> None:
        for requests in self.bursts(200):
            self.send(b"".join(map(self.spelled, requests)))
            self.expect(requests)


class InPieces(Asker):
    """The bytes are cut anywhere."""

    def ask(self) -> None:
        for requests in self.bursts(40):
            data = b"".join(map(self.spelled, requests))
            while data:
                size = self.random.randint(1, 300)
                self.send(data[:size])
                data = data[size:]
            self.expect(requests)


class Oddly(InBursts):
    """What QEMU reads though it is no JSON."""

    def spelled(self, request: Request) -> bytes:
        return json.dumps(request).replace('"', "'").encode()


class Overtaking(Asker):
    """Some requests are executed out-of-band: they have their own order."""

    out_of_band = True

    def ask(self) -> None:
        for requests in self.bursts(30):
            overtaking = [{"exec-oob": "migrate-pause", "id": ["oob", each["id"]]} for each in requests[::3]]
            every = [*requests, *overtaking]
            self.random.shuffle(every)
            self.send(b"".join(map(self.spelled, every)))
            replies = [self.reply()["id"] for _ in every]
            for kind in (int, list):
                heard = [each for each in replies if type(each) is kind]
                assert heard == [each["id"] for each in every if type(each["id"]) is kind]


class ReadingLate(Asker):
    """Large replies, read when all was asked for."""

    def request(self, number: int) -> Request:
        return {"execute": SCHEMA if number % 20 == 0 else "query-name", "id": number}

    def ask(self) -> None:
        for requests in self.bursts(250):
            self.send(b"".join(map(self.spelled, requests)))
            self.expect(requests)


ASKERS: dict[Callable[[Path, int, int], Asker], int] = {
    Mover: 2 * MOVES, Asker: 1000, InBursts: 4000, InPieces: 2000, Oddly: 800, Overtaking: 1500, ReadingLate: 500,
}  # fmt: skip


@pytest.mark.parametrize("options", [(), ("-control", "unix:{}/control")], ids=["alone", "with a puppeteer"])
def test_every_reply_comes_once_and_in_order(tmp_path: Path, options: tuple[str, ...]) -> None:
    options = tuple(each.format(tmp_path) for each in options)
    with serving(tmp_path / "qmp", "-machine", "none", "--release", "10.0", *options) as server:
        askers = [make(server.path, number, count) for number, (make, count) in enumerate(ASKERS.items())]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join(60)
        for asker in askers:
            with asker:
                assert not asker.is_alive(), f"{type(asker).__name__} waits for a reply"
                assert asker.wrong is None, f"{type(asker).__name__}: {asker.wrong!r}"
                asker.hear_the_last()
                assert asker.events == ["STOP", "RESUME"] * MOVES, type(asker).__name__
