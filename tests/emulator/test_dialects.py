"""Telnet and websockets on character devices, over real sockets; the real programs that are here are asked, too."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmpd.chardev.telnet import Telnet
from qmpd.chardev.websocket import Frames
from tests.emulator.support import PROGRAM, environment
from tests.real_qemu import programs
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MACHINE = ["-machine", "none", "-nodefaults", "-display", "none"]
TELNET = bytes.fromhex("fffb01fffb03fffb00fffd00")
TELNET_3270 = bytes.fromhex("fffd19fffb19fffd00fffb00fffd18fffa1801fff0")
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: binary\r\n\r\n"
)
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nServer: QEMU VNC\r\nDate: NOW\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    b"Sec-WebSocket-Protocol: binary\r\n\r\n"
)
REFUSED = (
    b"HTTP/1.1 400 Bad Request\r\nServer: QEMU VNC\r\nDate: NOW\r\nConnection: close\r\nSec-WebSocket-Version: 13\r\n"
)
PATH = b"HTTP/1.1 404 Not Found\r\nServer: QEMU VNC\r\nDate: NOW\r\nConnection: close\r\n\r\n"
LARGE = b"HTTP/1.1 403 Request Entity Too Large\r\nServer: QEMU VNC\r\nDate: NOW\r\nConnection: close\r\n\r\n"
BANNER = b"QEMU 7.2.22 monitor - type 'help' for more information\r\n"
PROMPT = b"(qemu) "
BYTE = re.compile(rb"Date: [^\r]*")


def frame(payload: bytes, kind: int = 2, *, last: bool = True, mask: bytes = b"abcd") -> bytes:
    """A client's frame."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([0x80 * last | kind]) + length + mask + bytes(x ^ mask[i % 4] for i, x in enumerate(payload))


def said(payload: bytes, kind: int = 2) -> bytes:
    """A frame of the machine's."""
    return bytes([0x80 | kind, len(payload)]) + payload


class Machine:
    """A running program: ours, or the real one."""

    def __init__(self, program: list[str], release: str, options: list[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [*program, *MACHINE, "-qmp", "stdio", *(each.replace("PORT", str(self.port)) for each in options)],
            env=environment(release),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.clients: list[socket.socket] = []
        self.events: list[dict[str, Any]] = []

    def begin(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.process.stdin.flush()
        while "event" in (message := self.line()):
            self.events.append(message)
        return message.get("return", message.get("error"))

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        message: dict[str, Any] = json.loads(self.process.stdout.readline())
        message.pop("timestamp", None)
        return message

    def name(self, label: str = "c") -> str:
        """What query-chardev calls a device, without the ports."""
        found = next(each["filename"] for each in self.ask("query-chardev") if each["label"] == label)
        return re.sub(r"(<-> 127.0.0.1:)[0-9]+", r"\1THERE", str(found).replace(str(self.port), "PORT"))

    def becomes(self, name: str) -> None:
        wait_until(lambda: self.name() == name)

    def connect(self) -> socket.socket:
        """A client, as soon as somebody listens."""
        client = wait_until(self._connected)
        self.clients.append(client)
        return client

    def _connected(self) -> socket.socket | None:
        try:
            return socket.create_connection(("127.0.0.1", self.port), timeout=10)
        except ConnectionRefusedError:
            return None

    def end(self) -> None:
        for client in self.clients:
            client.close()
        self.process.kill()
        self.process.communicate()

    @classmethod
    @contextmanager
    def running(cls, program: list[str], release: str, *options: str) -> Iterator[Self]:
        machine = cls(program, release, list(options))
        try:
            machine.begin()
            yield machine
        finally:
            machine.end()


running = Machine.running


def receive(client: socket.socket, size: int) -> bytes:
    """So many bytes, the date in a reply being masked, or what there is before the end."""
    came = b""
    while len(came) < size and (data := client.recv(1 << 16)):
        came = BYTE.sub(b"Date: NOW", came + data)
    return came


def expect(client: socket.socket, wanted: bytes) -> None:
    assert receive(client, len(wanted)) == wanted


def ended(client: socket.socket, wanted: bytes = b"") -> None:
    """The machine ends the connection when it has said this."""
    came = b""
    try:
        while data := client.recv(1 << 16):
            came += data
    except ConnectionResetError:
        pass  # it has not read all
    assert BYTE.sub(b"Date: NOW", came) == wanted


OURS = [pytest.param(PROGRAM, release, id=f"qmpd-{release}") for release in ("5.2", "7.2", "10.0", "11.1")]
REAL = [pytest.param(program, release, id=f"QEMU-{release}") for release, program in programs().items()]
EACH = pytest.mark.parametrize(("program", "release"), OURS + REAL)
ONE = pytest.mark.parametrize(
    ("program", "release"), OURS[1:2] + [each for each in REAL if each.id == "QEMU-7.2"]
)
SUFFIX = {"5.2": ",server"}


def device(options: str) -> list[str]:
    return ["-chardev", f"socket,id=c,host=127.0.0.1,port=PORT,server=on,wait=off,{options}", "-mon", "c,mode=readline"]


def banner(release: str) -> bytes:
    version = {"5.2": "5.2.0", "7.2": "7.2.22", "10.0": "10.0.13", "11.1": "11.1.3"}[release]
    return BANNER.replace(b"7.2.22", version.encode())


@EACH
@pytest.mark.parametrize(
    ("options", "scheme", "greeting"),
    [
        ("telnet=on", "telnet", TELNET),
        ("tn3270=on", "tcp", TELNET_3270),
        ("websocket=on", "websocket", ACCEPTED),
        ("websocket=on,telnet=on", "telnet", ACCEPTED + said(TELNET)),
    ],
)
def test_each_client_is_greeted(program: list[str], release: str, options: str, scheme: str, greeting: bytes) -> None:
    suffix = SUFFIX.get(release, ",server=on")
    with running(program, release, *device(options)) as machine:
        away = f"disconnected:{scheme}:127.0.0.1:PORT{suffix}"
        assert machine.name() == away
        frames = "websocket" in options
        for _ in range(2):
            client = machine.connect()
            if frames:
                client.sendall(REQUEST)
            words = (said(banner(release)), said(PROMPT)) if frames else (banner(release), PROMPT)
            expect(client, greeting + b"".join(words))
            assert machine.name() == f"{scheme}:127.0.0.1:PORT{suffix} <-> 127.0.0.1:THERE"
            client.close()
            machine.becomes(away)


@ONE
@pytest.mark.parametrize(
    ("options", "greeting", "typed", "heard"),
    [
        ("telnet=on", TELNET, b"a\xff\xfb\x01b\xff\xf3c\xff\xf1\xffd\xff\xfee", b"abcd"),
        ("telnet=on", TELNET, b"\xff\xff", b"\xff"),
        ("tn3270=on", TELNET_3270, b"a\xff\xf1b\xff\xf4c\xff\xfb\x00d", b"abcd"),
    ],
)
def test_commands_are_taken_out(
    program: list[str], release: str, options: str, greeting: bytes, typed: bytes, heard: bytes
) -> None:
    with running(program, release, *device(options)) as machine:
        client = machine.connect()
        expect(client, greeting + BANNER + PROMPT)
        client.sendall(typed)
        wanted = b""
        for place in range(len(heard)):
            wanted += b"\x1b[D" * place + heard[: place + 1] + b"\x1b[K" if place else heard[:1] + b"\x1b[K"
        came = receive(client, len(wanted))
        assert came == wanted


@ONE
def test_half_a_command_is_left_to_the_next_client(program: list[str], release: str) -> None:
    with running(program, release, *device("telnet=on")) as machine:
        client = machine.connect()
        expect(client, TELNET + BANNER + PROMPT)
        client.sendall(b"\xff")
        client.close()
        machine.becomes("disconnected:telnet:127.0.0.1:PORT,server=on")
        client = machine.connect()
        expect(client, TELNET + BANNER + PROMPT)
        client.sendall(b"\xfb\x01x")
        expect(client, b"x\x1b[K")


REQUESTS = {
    "other protocols": (REQUEST.replace(b"l: binary", b"l: chat"), REFUSED),
    "path": (REQUEST.replace(b"GET / ", b"GET /x "), PATH),
    "method": (REQUEST.replace(b"GET", b"POST"), REFUSED),
    "way": (REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"), REFUSED),
    "version": (REQUEST.replace(b"13", b"12"), REFUSED),
    "key": (REQUEST.replace(b"dGhl", b""), REFUSED),
    "no colon": (REQUEST.replace(b"Host: x", b"Host x"), REFUSED),
    "no space": (b"GET\r\nHost: x\r\n\r\n", b""),
    "one space": (b"GET /\r\nHost: x\r\n\r\n", REFUSED),
    "no headers": (b"GET / HTTP/1.1\r\n\r\n", REFUSED),
    "space behind": (REQUEST.replace(b"13", b"13 "), REFUSED),
    "33 headers": (REQUEST.replace(b"Host", b"".join(b"h%d: x\r\n" % i for i in range(27)) + b"Host"), REFUSED),
    "too long": (b"GET / HTTP/1.1\r\nA: " + b"x" * 5000, LARGE),
}
ACCEPTABLE = {
    "plain": REQUEST,
    "among others": REQUEST.replace(b"n: Upgrade", b"n: keep-alive, upgrade").replace(b": binary", b": base64, binary"),
    "letters": REQUEST.replace(b": websocket", b": WebSocket").replace(b"Host: x", b"hOST:   x"),
    "32 headers": REQUEST.replace(b"Host", b"".join(b"h%d: x\r\n" % i for i in range(26)) + b"Host"),
}


@ONE
def test_requests(program: list[str], release: str) -> None:
    with running(program, release, *device("websocket=on")) as machine:
        for request, reply in REQUESTS.values():
            client = machine.connect()
            client.sendall(request)
            ended(client, reply)
        client = machine.connect()
        client.sendall(REQUEST[:30])
        client.shutdown(socket.SHUT_WR)
        ended(client)
        for request in [*ACCEPTABLE.values(), REQUEST.replace(b"Sec-WebSocket-Protocol: binary\r\n", b"")]:
            client = machine.connect()
            # In two pieces.
            client.sendall(request[:50])
            time.sleep(0.01)
            client.sendall(request[50:])
            reply = ACCEPTED if b"binary" in request else ACCEPTED.replace(b"Sec-WebSocket-Protocol: binary\r\n", b"")
            expect(client, reply + said(BANNER) + said(PROMPT))
            client.close()


@contextmanager
def conversation(program: list[str], release: str) -> Iterator[Callable[[], socket.socket]]:
    with running(program, release, *device("websocket=on")) as machine:

        def connect() -> socket.socket:
            client = machine.connect()
            client.sendall(REQUEST)
            expect(client, ACCEPTED + said(BANNER) + said(PROMPT))
            return client

        yield connect


@ONE
def test_frames(program: list[str], release: str) -> None:
    enter = said(b"\r\n") + said(PROMPT)
    with conversation(program, release) as connect:
        client = connect()
        client.sendall(frame(b"\r"))
        expect(client, enter)
        client.sendall(frame(b"", 9))
        expect(client, said(b"", 10))
        client.sendall(frame(b"hello", 9)[:-1])
        time.sleep(0.02)
        client.sendall(frame(b"hello", 9)[-1:])
        expect(client, said(b"hello", 10))
        # A pong has all that has come behind the ping, too; a second one is left out.
        client.sendall(frame(b"one", 9) + frame(b"two", 9) + frame(b"\r"))
        expect(client, said(b"one" + frame(b"two", 9) + frame(b"\r"), 10) + enter)
        # What continues a ping is one.
        client.sendall(frame(b"", last=False))
        client.sendall(frame(b"x", 10) + frame(b"\r", 0))
        client.sendall(frame(b"\r", 2, last=False) + frame(b"", 0) + frame(b"", 2))
        expect(client, enter)


FAULTS = {
    "close": (frame(b"", 8), (1000, "peer requested close")),
    "close with a status": (frame(b"\x03\xe9", 8), (1000, "peer requested close")),
    "text": (frame(b"x", 1), (1003, "only binary, close, ping, and pong frames are supported")),
    "kind": (frame(b"x", 3), (1003, "only binary, close, ping, and pong frames are supported")),
    "fragment": (frame(b"x", 1, last=False), (1008, "only binary frames may be fragmented")),
    "no mask": (b"\x82\x05abcde", (1002, "client frames must be masked")),
    "control": (frame(b"x" * 200, 9), (1002, "control frame is too large")),
}


@ONE
def test_faults_end_the_connection(program: list[str], release: str) -> None:
    with conversation(program, release) as connect:
        for sent, (status, why) in FAULTS.values():
            client = connect()
            # What comes with it is lost.
            client.sendall(frame(b"\r") + sent)
            ended(client, said(status.to_bytes(2, "big") + why.encode(), 8))


@pytest.mark.parametrize(("program", "release"), OURS[1:3])
def test_qmp_is_answered_over_a_websocket_and_that_is_said(program: list[str], release: str) -> None:
    with running(program, release, *device("websocket=on")[:-1], "c,mode=control") as machine:
        client = machine.connect()
        client.sendall(REQUEST)
        client.settimeout(10)
        greeting = receive(client, len(ACCEPTED) + 4)
        assert greeting.startswith(ACCEPTED + b"\x82~")
        client.sendall(frame(b'{"execute": "qmp_capabilities"}'))
        expect(client, said(b'{"return": {}}\r\n'))
        # What is longer than a frame may be.
        client.sendall(frame(b'{"execute": "query-commands"}'))
        came, payload = b"", b""
        while not payload.endswith(b"\r\n"):
            came += client.recv(1 << 16)
            while len(came) >= 4 and len(came) >= (size := int.from_bytes(came[2:4], "big")) + 4:
                assert came[:2] == b"\x82~"
                assert size <= 8192
                payload, came = payload + came[4 : 4 + size], came[4 + size :]
        assert len(json.loads(payload)["return"]) > 100
        machine.process.terminate()
        _, words = machine.process.communicate(timeout=10)
        assert b"warning: real QEMU greets a QMP client over a websocket and hears what" in words


@ONE
@pytest.mark.parametrize("scheme", ["telnet", "tn3270", "websocket"])
def test_short_forms_and_waiting(program: list[str], release: str, scheme: str) -> None:
    options = [scheme + ":127.0.0.1:PORT,server", scheme + ":127.0.0.1:PORT,server=on,wait=on"]
    named = "tcp" if scheme == "tn3270" else scheme
    for option in options:
        machine = Machine(program, release, ["-monitor", option])
        try:
            client = machine.connect()
            if scheme == "websocket":
                client.sendall(REQUEST)
                expect(client, ACCEPTED + said(BANNER) + said(PROMPT))
            else:
                expect(client, (TELNET if scheme == "telnet" else TELNET_3270) + BANNER + PROMPT)
            machine.begin()
            found = [each["filename"] for each in machine.ask("query-chardev") if each["label"] != "compat_monitor0"]
            found += [machine.name("compat_monitor1")] if not found else []
            assert any(f"{named}:127.0.0.1:{machine.port},server=on <-> " in each for each in found)
            machine.process.kill()
            _, words = machine.process.communicate()
            line = f"info: QEMU waiting for connection on: disconnected:{named}:127.0.0.1:{machine.port},server=on"
            assert line.encode() in words
        finally:
            machine.end()


@ONE
def test_devices_that_are_added(program: list[str], release: str) -> None:
    with running(program, release) as machine:
        address = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(machine.port)}}

        def add(**data: object) -> Any:
            backend = {"type": "socket", "data": {"addr": address, **data}}
            return machine.ask("chardev-add", id="c", backend=backend)

        refusal = "Failed to add chardev 'c': Websocket client is not implemented"
        assert add(websocket=True, server=False)["desc"] == refusal
        for data, greeting in (({"telnet": True}, TELNET), ({"tn3270": True}, TELNET_3270)):
            assert add(**data) == {}
            expect(machine.connect(), greeting)
            assert machine.ask("chardev-remove", id="c") == {}
        assert add(websocket=True) == {}
        client = machine.connect()
        # Who does not finish his request keeps nobody from taking the device away.
        client.sendall(REQUEST[:20])
        assert machine.name() == "disconnected:websocket:127.0.0.1:PORT,server=on"
        assert machine.ask("chardev-remove", id="c") == {}
        assert machine.ask("query-status")["running"] is True


@pytest.mark.parametrize("options", ["telnet=on", "websocket=on"])
def test_a_client_that_does_not_read_gets_all_of_it_later(options: str) -> None:
    with running(PROGRAM, "7.2", *device(options)) as machine:
        client = machine.connect()
        # With less room the kernel takes a fifth of a second for each piece that is read later.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        frames = "websocket" in options
        if frames:
            client.sendall(REQUEST)
        times = 60
        line = b"help\r" * times
        client.sendall(frame(line) if frames else line)
        time.sleep(0.3)
        assert machine.ask("query-status")["running"] is True
        client.sendall(frame(b"quit\r") if frames else b"quit\r")
        came = b""
        try:
            while data := client.recv(1 << 16):
                came += data
        except ConnectionResetError:
            pass
        assert came.count(b"balloon MIB") == times


def test_what_divides_records_is_kept() -> None:
    assert Telnet(is_3270=True).read(b"a\xff\xef\xff\xfab\xff\xf0") == b"a\xff\xef\xff\xfab\xff\xf0"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([b"a", b"\xff", b"\xf3", b"\xf0", b"\xfb", b"\x01"]), max_size=20), st.booleans())
def test_telnet_is_the_same_in_whatever_pieces(pieces: list[bytes], is_3270: bool) -> None:
    whole, bit = Telnet(is_3270=is_3270), Telnet(is_3270=is_3270)
    assert whole.read(b"".join(pieces)) == b"".join(bit.read(piece) for piece in pieces)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 400), st.binary(min_size=4, max_size=4))
def test_frames_are_the_same_in_whatever_pieces(payloads: list[bytes], size: int, mask: bytes) -> None:
    data = b"".join(frame(payload, mask=mask) for payload in payloads)
    frames = Frames()
    assert b"".join(frames.read(data[i : i + size]) for i in range(0, len(data), size)) == b"".join(payloads)
    assert not frames.ended
