"""What parent and child say to each other, and what they hand over in plain data."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from qmpd.common.plain import from_plain, to_plain
from qmpd.machine.blueprint import Device, GuestAction, GuestSettings, MachineSettings
from qmpd.server.hand_over import frames, plain
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
    frames.Channel(ours).send({"kind": "x", "bytes": b"\0\xff", "number": 1 << 70}, [writing] * wanted)
    message, descriptors = frames.Channel(theirs).receive(most_descriptors=wanted)
    assert message == {"kind": "x", "bytes": b"\0\xff", "number": 1 << 70}
    assert len(set(descriptors)) == wanted
    os.close(writing)
    for number, descriptor in enumerate(descriptors):
        assert not os.get_inheritable(descriptor)
        os.write(descriptor, b"%d\n" % number)
        os.close(descriptor)
    with open(reading, "rb") as pipe:
        assert pipe.read().split() == [b"%d" % number for number in range(wanted)]


# Runs in a process of its own, where nothing else opens or closes a file meanwhile.
WITHOUT_ROOM = """
import os, resource, socket
from qmpd.server.hand_over import frames
ours, theirs = socket.socketpair()
theirs.settimeout(5)
frames.Channel(ours).send({"kind": "x"}, [0] * 20)
free = os.dup(0)
while any(os.path.exists(f"/proc/self/fd/{number}") for number in range(free + 1, free + 30)):
    free = os.dup(0)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + 6, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
try:
    frames.Channel(theirs).receive(most_descriptors=20)
except frames.BadFrame as error:
    print(error)
"""


def test_descriptors_that_do_not_fit_are_noticed() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_ROOM], capture_output=True, text=True, timeout=60, check=False)
    assert "lost on the way" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not from a qmpd"),
        (b"QMPU" + bytes(7) + b"\x03" + bytes(4) + b"\xff\xfe\xfd", "cannot be read"),
        (b"QMPU" + bytes(7) + b"\x01" + bytes(4) + b"1", "no message"),
        (b"QMPU" + bytes(7) + b"\x0a" + bytes(4) + b'{"kind":1}', "no message"),
        (b"QMPU" + bytes(6) + b"\x01\x01" + bytes(4), "too large: 257 bytes and 0 open files"),
        (b"QMPU" + bytes(11) + b"\x01", "too large: 0 bytes and 1 open files"),
    ],
)
async def test_what_is_no_frame(pair: tuple[socket.socket, socket.socket], sent: bytes, complaint: str) -> None:
    ours, theirs = pair
    ours.sendall(sent * 2)
    with pytest.raises(frames.BadFrame, match=complaint):
        frames.Channel(theirs).receive(256)
    while len(theirs.recv(1 << 16, socket.MSG_PEEK)) < len(sent):
        theirs.recv(1)
    ours.shutdown(socket.SHUT_WR)
    theirs.setblocking(False)
    with pytest.raises((frames.BadFrame, frames.Disconnected)):
        await frames.Incoming(256).message(theirs)


def test_all_together_have_one_deadline(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    channel = frames.Channel(theirs, time.monotonic() + 0.3)

    def trickle() -> None:
        with contextlib.suppress(OSError):
            for byte in frames.spelled({"kind": "x", "y": "z" * 100}).tobytes():
                ours.sendall(bytes([byte]))
                time.sleep(0.05)

    thread = threading.Thread(target=trickle)
    thread.start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        channel.receive()
    assert time.monotonic() - began < 3  # the whole of it takes more than 5 s
    # Nothing is left for what comes after that, in either direction.
    with pytest.raises(TimeoutError):
        channel.receive()
    with pytest.raises(TimeoutError):
        channel.send({"kind": "x"})
    theirs.close()
    thread.join()
    # A peer that takes nothing.
    ours, theirs = socket.socketpair()
    with ours, theirs:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            frames.Channel(ours, began + 0.2).send({"kind": "x", "y": bytes(8 << 20)})
        assert time.monotonic() - began < 1


def test_what_is_too_large_is_not_sent(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "LARGEST", 1000)
    ours, theirs = pair
    with pytest.raises(frames.TooLarge, match="it takes 1000"):
        frames.Channel(ours).send({"kind": "x", "y": "z" * 1000})
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)


def test_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.sendall(b"QMPU\0")
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(frames.Disconnected):
        frames.Channel(theirs).receive()
    with pytest.raises(TimeoutError):
        frames.Channel(ours, time.monotonic() + 0.01).receive()


async def test_tasks_talk_to_processes(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.setblocking(False)
    message = {"kind": "prepare", "data": bytes(3 << 20)}
    received: list[object] = []

    async def take() -> None:
        received.append(await frames.Incoming(64 << 20).message(theirs))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await trio.to_thread.run_sync(frames.Channel(ours, time.monotonic() + 5).send, message)
    assert received == [message]
    ours.close()
    with pytest.raises(frames.Disconnected):
        await frames.Incoming(64 << 20).message(theirs)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False),
    st.text(),
    st.text(alphabet=st.characters(codec=None, categories=["Cs", "Lu"])),
    st.sampled_from(["\0t", "\0d", "\0j", ""]),
    st.binary(),
)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.sets(SCALARS),
        st.frozensets(SCALARS),
        st.dictionaries(SCALARS, inner),
        st.dictionaries(st.sampled_from(["a", "\0t", "\0d", "\0b"]), inner, max_size=1),
    ),
    max_leaves=20,
)


@given(value=PLAIN)
def test_plain_data_comes_back_as_it_was(value: object) -> None:
    assert typed(plain.read(plain.write(value))) == typed(value)


def typed(value: object) -> object:
    """The same, told apart by type all the way down: to Python True is 1, and a set is a frozen one."""
    if isinstance(value, dict):
        return "dict", [(typed(key), typed(member)) for key, member in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [typed(item) for item in value]
    if isinstance(value, set | frozenset):
        return type(value), {repr(item) for item in value}
    return type(value), repr(value)


@pytest.mark.parametrize("depth", [10, 70, 300, 1020])
def test_what_clients_nest(depth: int) -> None:
    value: object = [1e999, 0.1, "\u00e9\u2028", -1, 1 << 63]
    for level in range(depth):
        value = [value] if level % 2 else {"a": value, "b": None}
    read = plain.read(plain.write({"kind": "commit", "queue": [value]}))["queue"][0]
    for level in reversed(range(depth)):
        assert len(read) == 2 - level % 2
        read = read[0] if level % 2 else read["a"]
    assert read == [float("inf"), 0.1, "\u00e9\u2028", -1, 1 << 63]


@pytest.mark.parametrize("value", [object(), {"a": [bytearray()]}, 1j, ("x", range(3))])
def test_what_is_no_plain_data(value: object) -> None:
    with pytest.raises(TypeError, match="is no plain data"):
        plain.write(value)


@given(data=st.one_of(st.binary(), st.recursive(st.sampled_from(["1", "\0t", 1, -1, 2.5]), lambda inner: st.one_of(
    st.lists(inner), st.dictionaries(st.sampled_from([f"\0{letter}" for letter in "tsfdbiju"]), inner, max_size=1),
)).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_whatever_is_read_is_plain_or_refused(data: bytes) -> None:
    try:
        value = plain.read(data)
    except plain.NotPlain:
        return
    plain.write(value)


@dataclass
class _Odd:
    pairs: tuple[str, int | None]
    many: tuple[int, ...] = ()
    named: dict[str, Device] = field(default_factory=dict)


def test_settings_survive_as_plain_data() -> None:
    guest = GuestSettings(on_sleep=GuestAction.NONE, sleep_time=5)
    machine = MachineSettings(guest=guest, devices=(Device(driver="pvpanic", properties={"ioport": "1"}),))
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
