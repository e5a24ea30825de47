"""The sockets of network backends, over real sockets; the real programs that are here are asked, too."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from qmpd.server.chardevs.networks import LONGEST_FRAME, Frames
from tests.emulator.support import PROGRAM, run
from tests.emulator.test_dialects import Machine
from tests.live_update.process import running as updating
from tests.real_qemu import programs
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

REAL = [pytest.param(program, release, id=f"QEMU-{release}") for release, program in programs().items()]
OURS = [pytest.param(PROGRAM, release, id=f"qmpd-{release}") for release in ("5.2", "7.2", "10.0")]
EACH = pytest.mark.parametrize(("program", "release"), OURS + REAL)
STREAMS = pytest.mark.parametrize(
    ("program", "release"), OURS[1:] + [each for each in REAL if each.id != "QEMU-5.2"]
)  # 5.2 knows none
AGAIN = pytest.mark.parametrize(
    ("program", "release"), OURS[2:] + [each for each in REAL if each.id not in ("QEMU-5.2", "QEMU-7.2")]
)  # nor does 7.2 connect again
OLD = ("5.2", "7.2")
"""Releases that tell little of a stream."""


class Telling(Machine):
    """A running program with a network backend, and what it tells of that."""

    def told(self) -> dict[str, Any]:
        """The next event, and what it says."""
        message = self.events.pop(0) if self.events else self.line()
        assert message["event"].startswith("NETDEV_STREAM_"), message
        return {message["event"]: message["data"]}

    def shown(self, text: str) -> None:
        """`info network` shows this of the backend, by and by."""
        question = {"command-line": "info network"}
        wait_until(lambda: self.ask("human-monitor-command", **question) == text)

    def add(self, kind: str, **options: object) -> Any:
        values = {key.replace("_", "-"): each for key, each in options.items()}
        return self.ask("netdev_add", type=kind, id="s", **values)


running = Telling.running


def info(kind: str, state: str) -> str:
    return f"s: index=0,type={kind},{state}\r\n"


def inet(port: int) -> dict[str, str]:
    return {"type": "inet", "host": "127.0.0.1", "port": str(port)}


def connected(data: dict[str, Any]) -> dict[str, Any]:
    return {"NETDEV_STREAM_CONNECTED": {"netdev-id": "s", "addr": data}}


DISCONNECTED = {"NETDEV_STREAM_DISCONNECTED": {"netdev-id": "s"}}


@STREAMS
def test_a_stream_listens(program: list[str], release: str) -> None:
    free = "" if release in OLD else "listening"
    with running(program, release) as machine:
        assert machine.add("stream", server=True, addr=inet(machine.port)) == {}
        machine.shown(info("stream", free))
        first, second = machine.connect(), machine.connect()
        places = [each.getsockname() for each in (first, second)]
        addresses = [{"port": str(port), "ipv4": True, "host": host, "type": "inet"} for host, port in places]
        # Members come in the very order.
        assert json.dumps(machine.told()) == json.dumps(connected(addresses[0]))
        machine.shown(info("stream", f"tcp:127.0.0.1:{places[0][1]}"))
        first.sendall(b"\0\0\0\x3c" + bytes(60))
        first.close()
        # The one that has waited.
        assert machine.told() == DISCONNECTED
        assert machine.told() == connected(addresses[1])
        second.sendall(LONGEST_FRAME.to_bytes(4, "big") + bytes(LONGEST_FRAME))
        second.sendall((LONGEST_FRAME + 100).to_bytes(4, "big") + bytes(LONGEST_FRAME + 1))
        assert machine.told() == DISCONNECTED
        machine.shown(info("stream", free))
        assert machine.ask("netdev_del", id="s") == {}
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", machine.port))
        machine.process.terminate()
        _, words = machine.process.communicate()
        assert b"serious error: oversized packet received,connection terminated.\n" in words


@STREAMS
def test_a_stream_connects(program: list[str], release: str) -> None:
    name = f"qmpd-test-{os.getpid()}-network"
    address = {"path": name, "type": "unix", "abstract": True, "tight": True}
    with running(program, release) as machine, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        assert machine.add("stream", server=False, addr=address) == {}
        assert machine.told() == connected(address)
        assert [each["label"] for each in machine.ask("query-chardev")] == ["compat_monitor0"]
        client, _ = server.accept()
        machine.shown(info("stream", f"unix:{name}"))
        client.close()
        assert machine.told() == DISCONNECTED
        machine.shown(info("stream", "" if release in OLD else f"unix:{name}"))
        assert machine.ask("netdev_del", id="s") == {}
        # Nobody is told at once where nobody is there.
        assert machine.add("stream", server=False, addr={**address, "path": f"{name}-none"}) == {}
        why = f"error: Failed to connect to '{name}-none': Connection refused"
        machine.shown(info("stream", "connection error" if release in OLD else why))


@AGAIN
def test_a_stream_connects_again(program: list[str], release: str) -> None:
    name = f"qmpd-test-{os.getpid()}-again"
    address = {"path": name, "type": "unix", "abstract": True, "tight": True}
    with running(program, release) as machine, socket.socket(socket.AF_UNIX) as server:
        assert machine.add("stream", server=False, addr=address, reconnect_ms=50) == {}
        machine.shown(info("stream", "connecting"))
        server.bind(f"\0{name}")
        server.listen()
        for _ in range(2):
            assert machine.told() == connected(address)
            client, _ = server.accept()
            client.close()
            assert machine.told() == DISCONNECTED


@EACH
def test_a_socket_listens_and_connects(program: list[str], release: str) -> None:
    with running(program, release) as machine, socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        port = server.getsockname()[1]
        why = "can't bind ip=127.0.0.1 to socket: Address already in use"
        assert machine.add("socket", listen=f"127.0.0.1:{port}")["desc"] == why
        assert machine.add("socket", listen=f"127.0.0.1:{machine.port}") == {}
        machine.shown(info("socket", ""))
        assert machine.ask("netdev_del", id="s") == {}
        # What follows the number is not looked at.
        assert machine.add("socket", listen=f":{machine.port}x") == {}
        client = machine.connect()
        machine.shown(info("socket", f"socket: connection from 127.0.0.1:{client.getsockname()[1]}"))
        client.close()
        machine.shown(info("socket", ""))
        assert machine.ask("netdev_del", id="s") == {}
        assert machine.add("socket", connect=f"127.0.0.1:{port}") == {}
        client, _ = server.accept()
        machine.shown(info("socket", f"socket: connect to 127.0.0.1:{port}"))
        client.close()
        machine.shown(info("socket", ""))


@EACH
def test_datagrams_are_taken(program: list[str], release: str) -> None:
    with running(program, release) as machine, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        there = f"127.0.0.1:{peer.getsockname()[1]}"
        assert machine.add("socket", udp=there, localaddr=f"127.0.0.1:{machine.port}") == {}
        machine.shown(info("socket", f"socket: udp={there}"))
        peer.connect(("127.0.0.1", machine.port))
        for _ in range(3):  # where nobody listens the second says so
            peer.send(b"x")


@STREAMS
def test_datagrams_of_this_computer_are_taken(program: list[str], release: str) -> None:
    """Also of one that sends more than a queue has."""
    name = f"qmpd-test-{os.getpid()}-there"
    with running(program, release) as machine:
        root = f"/proc/{machine.process.pid}/root/tmp/"
        here = f"{name}-here"
        addresses = [{"type": "unix", "path": f"/tmp/{each}"} for each in (here, name)]
        assert machine.add("dgram", local=addresses[0], remote=addresses[1]) == {}
        machine.shown(info("dgram", f"udp=/tmp/{here}:/tmp/{name}"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.settimeout(10)
            for _ in range(1000):
                peer.sendto(b"x", root + here)
        os.unlink(root + here)


def test_a_machine_that_cannot_have_its_socket_does_not_start() -> None:
    option = "socket,id=s,listen=192.0.2.1:1"
    done = run("-machine", "none", "-nodefaults", "-netdev", option, "-display", "none")
    why = "can't bind ip=192.0.2.1 to socket: Cannot assign requested address"
    assert done.stderr == f"qmpd-system-x86_64: -netdev {option}: {why}\n"
    assert done.returncode == 1


async def test_a_client_stays_through_an_update(tmp_path: Path) -> None:
    path = str(tmp_path / "network.sock")
    async with updating(tmp_path, "-extension", "live-update", release="10.0") as server:
        caller = await server.connect()
        await caller.returned("netdev_add", type="stream", id="s", server=True, addr={"type": "unix", "path": path})
        with socket.socket(socket.AF_UNIX) as client, socket.socket(socket.AF_UNIX) as second:
            client.connect(path)
            second.connect(path)
            client.sendall(b"\0\0")
            while "NETDEV_STREAM_CONNECTED" not in caller.events:
                await caller.returned("query-status")
            await caller.update()
            client.sendall(b"\0\x04" + b"four")
            caller.events.clear()
            client.close()
            while caller.events[-1:] != ["NETDEV_STREAM_CONNECTED"]:
                await caller.returned("query-status")
                await trio.sleep(0.01)
            assert caller.events == ["NETDEV_STREAM_DISCONNECTED", "NETDEV_STREAM_CONNECTED"]
            await caller.returned("netdev_del", id="s")
        assert not os.path.exists(path)


@given(st.lists(st.integers(0, 300), max_size=5), st.lists(st.integers(1, 400), min_size=1, max_size=20))
def test_frames_come_in_any_pieces(lengths: list[int], pieces: list[int]) -> None:
    data = b"".join(length.to_bytes(4, "big") + b"\xff" * length for length in lengths)
    frames = Frames()
    for piece in pieces * (len(data) // sum(pieces) + 1):
        assert frames.feed(data[:piece])
        data = data[piece:]
    assert frames.feed(data)
    assert frames.feed(LONGEST_FRAME.to_bytes(4, "big") + bytes(LONGEST_FRAME))
    assert frames.feed((LONGEST_FRAME + 9).to_bytes(4, "big") + bytes(LONGEST_FRAME))
    assert not frames.feed(b"x")
