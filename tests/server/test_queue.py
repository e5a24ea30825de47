"""The queue of one client's requests: their order, their ids, and what overtakes them.

With out-of-band execution negotiated eight requests may wait; what comes behind them is not read before there is room
(QEMU's docs/interop/qmp-spec, "Out-of-band execution"; asked of QEMU 7.2 while `pmemsave` waited for a FIFO's reader).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from tests.control.support import played
from tests.server.support import Served, served

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server.support import Client

ROOM = 8

IDENTITIES = [
    *((str(number),) * 2 for number in (0, -1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1)),
    ("18446744073709551616", "1.8446744073709552e+19"),
    ("1.5", "1.5"),
    ("0.1", "0.10000000000000001"),
    ("null", "null"),
    ("true", "true"),
    ('""', '""'),
    ('"\u00e9\U0001f600\x7f/"', '"\\u00E9\\uD83D\\uDE00\\u007F/"'),
    ("'it\\'s'", '"it\'s"'),
    ('[9007199254740993,{"n":-9007199254740993}]', '[9007199254740993, {"n": -9007199254740993}]'),
]
"""As they are sent, and as QEMU 7.2 tells them."""


async def silent(client: Client) -> bool:
    """Whether nothing comes."""
    with trio.move_on_after(0.02) as waited:
        client.buffer += await client.stream.receive_some()
    return waited.cancelled_caught and not client.buffer


async def negotiated(server: Served, out_of_band: bool) -> Client:
    client = await server.connect(negotiate=False)
    await client.line()
    enable = b',"arguments":{"enable":["oob"]}' if out_of_band else b""
    assert await client.ask(b'{"execute":"qmp_capabilities"%b}' % enable) == b'{"return": {}}'
    return client


@pytest.mark.parametrize(("sent", "told"), IDENTITIES)
@pytest.mark.parametrize("out_of_band", [False, True])
async def test_an_id_comes_back_as_it_was_sent(tmp_path: Path, sent: str, told: str, out_of_band: bool) -> None:
    async with served(tmp_path) as server:
        client = await negotiated(server, out_of_band)
        for name, reply in (
            ("query-name", f'{{"return": {{}}, "id": {told}}}'),
            ("query-kvm", f'{{"return": {{"enabled": false, "present": true}}, "id": {told}}}'),
            ("bad", f'{{"id": {told}, "error": {{"class": "CommandNotFound", '
                    f'"desc": "The command bad has not been found"}}}}'),
        ):  # fmt: skip
            assert await client.ask(f'{{"execute": "{name}", "id": {sent}}}'.encode()) == reply.encode()


async def test_a_machine_that_lives_long_answers_every_request(tmp_path: Path) -> None:
    """Thousands of requests of a few clients, in pieces of any size, while the machine stops and goes on."""
    chance = random.Random(1)
    names = (b"query-name", b"stop", b"cont", b"bad", b"query-status")

    async def ask(client: Client, count: int) -> None:
        for first in range(0, count, 60):
            data = b"\n".join(b'{"execute":"%b","id":%d}' % (chance.choice(names), first + n) for n in range(60))
            while data:
                size = chance.choice((1, 50, 700, len(data)))
                await client.send(data[:size])
                data = data[size:]
                if chance.random() < 0.3:
                    await trio.lowlevel.checkpoint()

    async def listen(client: Client, count: int) -> None:
        number = 0
        while number < count:
            message = await client.message()
            if "event" not in message:
                assert message["id"] == number
                number += 1

    async with served(tmp_path) as server:
        clients = [await negotiated(server, out_of_band) for out_of_band in (False, True, False, True)]
        async with trio.open_nursery() as nursery:
            for client in clients:
                client.patience = 30
                nursery.start_soon(ask, client, 1200)
                nursery.start_soon(listen, client, 1200)


def scripts() -> list[list[bool]]:
    """Requests in the order in which they are sent: whether each is one that may overtake."""
    chance = random.Random(2)
    found = [[False] * count + [True, False] for count in (6, 7, 8, 9)]
    return found + [[chance.random() < 0.2 for _ in range(chance.choice((5, 12, 40)))] for _ in range(12)]


@pytest.mark.parametrize("script", scripts(), ids=lambda script: "".join(".!"[each] for each in script))
@pytest.mark.parametrize("pieces", [1, 7])
async def test_what_overtakes(tmp_path: Path, script: list[bool], pieces: int) -> None:
    """The main loop hangs meanwhile, so that it shows what does not wait; then everything comes in its order."""
    data = b"".join(
        b'{"%b":"migrate-pause","id":%d}' % (b"exec-oob" if urgent else b"execute", number)
        for number, urgent in enumerate(script)
    )
    waiting = [sum(not urgent for urgent in script[:number]) for number in range(len(script))]
    at_once = [number for number, urgent in enumerate(script) if urgent and waiting[number] < ROOM]
    async with played(tmp_path) as machine:
        control = await machine.control()
        client = await machine.connect(greeting=False)
        await client.line()
        await client.ask(b'{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}')
        await control("fault-hang-main-loop")
        size = len(data) // pieces + 1
        for start in range(0, len(data), size):
            await client.send(data[start : start + size])
            await control("query-faults")
        assert [(await client.message())["id"] for _ in at_once] == at_once
        assert await silent(client)
        await control("fault-clear")
        rest = [(await client.message())["id"] for _ in range(len(script) - len(at_once))]
        urgent = [number for number in rest if isinstance(number, int) and script[number]]
        others = [number for number in rest if isinstance(number, int) and not script[number]]
        assert urgent == sorted(urgent)
        assert others == [number for number, each in enumerate(script) if not each]
        for number in urgent:
            # Not while eight of those before it wait, and before those after it; when in between it is read is open.
            assert waiting[number] - ROOM < rest.index(number) - urgent.index(number) <= waiting[number]
