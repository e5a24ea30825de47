"""What parent and child say to each other, and what they hand over in plain data."""

from __future__ import annotations

import os
import resource
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio

from qmpd.common.plain import from_plain, to_plain
from qmpd.machine.blueprint import Device, GuestAction, GuestSettings, MachineSettings
from qmpd.server.hand_over import frames
from qmpd.server.settings import MonitorSettings, VMSettings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    theirs.settimeout(5)
    with ours, theirs:
        yield ours, theirs


def test_more_descriptors_than_a_message_can_have(pair: tuple[socket.socket, socket.socket]) -> None:
    """Linux takes 253 at once."""
    ours, theirs = pair
    reading, writing = os.pipe()
    wanted = min(600, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100)
    assert wanted > 253
    frames.send(ours, {"kind": "x", "bytes": b"\0\xff", "number": 1 << 70}, [writing] * wanted)
    message, descriptors = frames.receive(theirs)
    assert message == {"kind": "x", "bytes": b"\0\xff", "number": 1 << 70}
    assert len(set(descriptors)) == wanted
    os.close(writing)
    for number, descriptor in enumerate(descriptors):
        assert not os.get_inheritable(descriptor)
        os.write(descriptor, b"%d\n" % number)
        os.close(descriptor)
    with open(reading, "rb") as pipe:
        assert pipe.read().split() == [b"%d" % number for number in range(wanted)]


def test_descriptors_that_do_not_fit_are_noticed(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull, "rb") as file:
        frames.send(ours, {}, [file.fileno()] * 20)
        # No number below the last one is free, and there is room for five more.
        highest = max(map(int, os.listdir("/proc/self/fd")))
        fillers = [os.dup(file.fileno())]
        while fillers[-1] < highest:
            fillers.append(os.dup(file.fileno()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 6, hard))
        try:
            with pytest.raises(frames.BadFrame, match="lost on the way"):
                frames.receive(theirs)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in (*fillers, *range(fillers[-1] + 1, fillers[-1] + 6)):
            os.close(descriptor)


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not from a qmpd"),
        (b"QMPU" + bytes(7) + b"\x03" + bytes(4) + b"\xff\xfe\xfd", "cannot be read"),
        (b"QMPU" + bytes(7) + b"\x01" + bytes(4) + b"N", "no message"),
    ],
)
def test_what_is_no_frame(pair: tuple[socket.socket, socket.socket], sent: bytes, complaint: str) -> None:
    ours, theirs = pair
    ours.sendall(sent)
    with pytest.raises(frames.BadFrame, match=complaint):
        frames.receive(theirs)


def test_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.sendall(b"QMPU\0")
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(frames.Disconnected):
        frames.receive(theirs)
    ours.settimeout(0.01)
    with pytest.raises(TimeoutError):
        frames.receive(ours)


async def test_tasks_talk_to_processes(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.setblocking(False)
    theirs.setblocking(False)
    message = {"kind": "prepare", "data": bytes(3 << 20)}
    received: list[object] = []

    async def take() -> None:
        received.append(await frames.receive_soon(theirs))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await frames.send_soon(ours, message)
    assert received == [message]
    ours.close()
    with pytest.raises(frames.Disconnected):
        await frames.receive_soon(theirs)


@dataclass
class _Odd:
    pairs: tuple[str, int | None]
    many: tuple[int, ...] = ()
    named: dict[str, Device] = field(default_factory=dict)


def test_settings_survive_as_plain_data() -> None:
    guest = GuestSettings(on_sleep=GuestAction.NONE, sleep_time=5)
    machine = MachineSettings(guest=guest, devices=[Device(driver="pvpanic", properties={"ioport": "1"})])
    settings = VMSettings(machine=machine, monitors=[MonitorSettings(path="/x")], extensions=("live-update",))
    plain = to_plain(settings)
    assert from_plain(VMSettings, plain) == settings
    odd = _Odd(("a", None), (1, 2), {"d": Device(driver="x")})
    assert from_plain(_Odd, to_plain(odd)) == odd
    # Another version may know more, or less.
    assert isinstance(plain, dict)
    del plain["clock"]
    plain["unheard-of"] = 1
    assert from_plain(VMSettings, plain) == settings
    with pytest.raises(ValueError, match="dance"):
        from_plain(GuestSettings, {"on_boot": "dance"})
