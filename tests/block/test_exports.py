"""What is exported over NBD is read and written by real clients, and nothing that a client does hurts another one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmpd.block.exports.negotiation import Event, Negotiation
from qmpd.block.exports.protocol import OPTION, OPTION_MAGIC, REQUEST, REQUEST_MAGIC
from qmpd.block.exports.transmission import BrokenProtocol, Transmission
from tests.block.images import needs_qemu_img, qemu_img
from tests.block.support import Monitor, disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qmpd.testing import VMFactory

KIBIBYTE, MEBIBYTE = 1 << 10, 1 << 20


class Exporting:
    """A machine whose node `n0` is exported writable as `w` and read-only as `r`."""

    def __init__(self, monitor: Monitor, path: str) -> None:
        self.monitor = monitor
        self.path = path

    def url(self, name: str = "w") -> str:
        return f"nbd+unix:///{name}?socket={self.path}"

    def qemu_io(self, *commands: str, name: str = "w") -> str:
        words = [word for command in commands for word in ("-c", command)]
        read_only = ["-r"] if name != "w" else []
        ended = subprocess.run(
            ["qemu-io", "-f", "raw", *read_only, *words, self.url(name)],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        return ended.stdout + ended.stderr

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(self.path)
        return client


@pytest.fixture
def image(tmp_path: Path) -> Path:
    if shutil.which("qemu-img") is None:
        pytest.skip("qemu-img is not installed")
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, "16M")
    return path


@pytest.fixture(params=["virtual", "real"])
def exporting(qmpd: VMFactory, image: Path, request: pytest.FixtureRequest) -> Iterator[Exporting]:
    vm = disk(qmpd, image, clock=request.param, device="virtio-blk-pci,drive=n0,id=d0,share-rw=on")
    monitor = Monitor(vm.qmp_path)
    path = str(image.with_name("n.sock"))
    assert monitor("nbd-server-start", addr={"type": "unix", "data": {"path": path}}) == {"return": {}}
    for name, writable in (("w", True), ("r", False)):
        added = monitor("block-export-add", type="nbd", id=name, node_name="n0", name=name, writable=writable)
        assert added == {"return": {}}
    yield Exporting(monitor, path)
    monitor.close()


@needs_qemu_img
def test_qemu_io_reads_and_writes(exporting: Exporting, image: Path) -> None:
    said = exporting.qemu_io(
        "write -P 7 1M 64k", "write -f -P 8 2M 64k", "write -z -u 1M 4k", "discard 3M 64k", "flush",
        "read -P 0 1M 4k", "read -P 7 1028k 60k", "write -P 1 16M 512",
    )  # fmt: skip
    assert said.count("failed") == 1, said
    assert "Pattern" not in said
    assert "write failed: Input/output error" in said
    assert "Pattern" not in exporting.qemu_io("read -P 8 2M 64k", name="r")
    exporting.monitor("quit")
    ended = subprocess.run(
        ["qemu-io", "-r", "-c", "read -P 7 1028k 60k", "-c", "read -P 8 2M 64k", str(image)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Pattern" not in ended.stdout


@needs_qemu_img
def test_a_disk_is_copied_whole_both_ways(exporting: Exporting, tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy.qcow2"
    source.write_bytes(b"".join(bytes([number]) * 64 * KIBIBYTE for number in range(256)))
    qemu_img("convert", "-n", "-f", "raw", "-O", "raw", source, exporting.url())
    qemu_img("convert", "-f", "raw", "-O", "qcow2", exporting.url("r"), copy)
    qemu_img("compare", "-f", "raw", "-F", "qcow2", source, copy)


@needs_qemu_img
def test_what_is_allocated_is_told(exporting: Exporting) -> None:
    exporting.qemu_io("write -P 7 1M 128k", "write -z 4M 64k")
    mapped = json.loads(qemu_img("map", "--output=json", exporting.url("r")))
    assert [(each["start"], each["length"], each["data"], each["zero"]) for each in mapped] == [
        (0, MEBIBYTE, False, True), (MEBIBYTE, 128 * KIBIBYTE, True, False),
        (MEBIBYTE + 128 * KIBIBYTE, 15 * MEBIBYTE - 128 * KIBIBYTE, False, True),
    ]  # fmt: skip


@pytest.mark.skipif(shutil.which("qemu-nbd") is None, reason="qemu-nbd is not installed")
def test_exports_are_listed(exporting: Exporting) -> None:
    listed = subprocess.run(
        ["qemu-nbd", "--list", "-k", exporting.path], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    assert "exports available: 2" in listed
    assert "flags: 0xded ( flush fua trim zeroes df multi cache fast-zero )" in listed
    assert "flags: 0x58f ( readonly flush fua df multi cache )" in listed


@needs_qemu_img
def test_a_refused_client_is_told_why(exporting: Exporting) -> None:
    assert "server reported: export 'nope' not present" in exporting.qemu_io("read 0 512", name="nope")
    said = subprocess.run(
        ["qemu-io", "-f", "raw", "-c", "write 0 512", exporting.url("r")], capture_output=True, text=True, check=False
    ).stderr
    assert "Permission denied" in said


def receive(client: socket.socket, length: int) -> bytes:
    """So many bytes, or what came before the end."""
    data = b""
    while len(data) < length and (more := client.recv(length - len(data))):
        data += more
    return data


def greeted(client: socket.socket) -> None:
    """Negotiate the export `w` in the oldest way."""
    assert receive(client, 18)[:8] == b"NBDMAGIC"
    client.sendall(struct.pack(">I", 3) + OPTION.pack(OPTION_MAGIC, 1, 1) + b"w")
    assert len(receive(client, 10)) == 10


def deleted(monitor: Monitor) -> list[str]:
    """The exports that have ended by what a client was told."""
    return [each["data"]["id"] for each in monitor.events if each["event"] == "BLOCK_EXPORT_DELETED"]


def test_an_export_ends_for_those_who_use_it(exporting: Exporting) -> None:
    monitor = exporting.monitor
    with exporting.connect() as client:
        greeted(client)
        assert monitor("block-export-del", id="w")["error"]["desc"] == "export 'w' still in use"
        assert monitor("block-export-del", id="w", mode="hard") == {"return": {}}
        assert client.recv(1) == b""
    end = time.monotonic() + 5
    while not deleted(monitor) and time.monotonic() < end:
        monitor("query-status")
    assert deleted(monitor) == ["w"]
    assert [each["id"] for each in monitor("query-block-exports")["return"]] == ["r"]


def test_the_server_stops_with_clients_in_every_state(exporting: Exporting) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(exporting.connect()) for _ in range(3)]
        greeted(clients[0])
        receive(clients[1], 18)
        assert exporting.monitor("nbd-server-stop") == {"return": {}}
        for client in clients:
            while client.recv(64):
                pass
    assert exporting.monitor("query-block-exports") == {"return": []}
    assert not os.path.exists(exporting.path)


@needs_qemu_img
def test_hostile_clients_cost_nobody_anything(exporting: Exporting) -> None:
    big = REQUEST.pack(REQUEST_MAGIC, 0, 0, 1, 0, 16 * MEBIBYTE)
    with contextlib.ExitStack() as stack:
        for said in (b"", b"\0" * 64, b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", 3) + b"\xff" * 200):
            client = stack.enter_context(exporting.connect())
            client.sendall(said)
        reader = stack.enter_context(exporting.connect())
        greeted(reader)
        reader.settimeout(0.2)
        # It asks for much and reads nothing of it.
        with contextlib.suppress(TimeoutError):
            reader.sendall(big * 5000)
        halved = stack.enter_context(exporting.connect())
        greeted(halved)
        halved.sendall(REQUEST.pack(REQUEST_MAGIC, 0, 1, 1, 0, MEBIBYTE) + b"x" * 1000)
        before = time.monotonic()
        assert "Pattern" not in exporting.qemu_io("write -P 3 0 64k", "read -P 3 0 64k")
        assert exporting.monitor("query-status")["return"]["running"] is True
        assert time.monotonic() - before < 20
    assert exporting.monitor("nbd-server-stop") == {"return": {}}


@pytest.mark.parametrize("code", [30_000, 8])
def test_a_request_that_is_none_is_refused_alone(exporting: Exporting, code: int) -> None:
    with exporting.connect() as client:
        greeted(client)
        client.sendall(REQUEST.pack(REQUEST_MAGIC, 0, code, 5, 0, 512) + REQUEST.pack(REQUEST_MAGIC, 0, 3, 6, 0, 0))
        replies = receive(client, 32)
    assert struct.unpack(">IIQIIQ", replies) == (0x67446698, 22, 5, 0x67446698, 0, 6)


def test_a_server_takes_as_many_clients_as_it_was_told(qmpd: VMFactory, image: Path) -> None:
    monitor = Monitor(disk(qmpd, image, clock="real").qmp_path)
    path = str(image.with_name("n.sock"))
    monitor("nbd-server-start", addr={"type": "unix", "data": {"path": path}}, max_connections=1)
    exporting = Exporting(monitor, path)
    with exporting.connect() as first, exporting.connect() as second:
        assert first.recv(8) == b"NBDMAGIC"
        second.settimeout(0.2)
        with pytest.raises(TimeoutError):
            second.recv(8)
        first.close()
        second.settimeout(10)
        assert second.recv(8) == b"NBDMAGIC"
    monitor.close()


def make_certificates(folder: Path) -> None:
    """Certificates for server and client, and the one that has signed both."""

    def run(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-subj",
        "/CN=authority", "-days", "9")  # fmt: skip
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for side in ("server", "client"):
        run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{side}-key.pem", "-out", f"{side}.csr", "-subj",
            f"/CN={'localhost' if side == 'server' else 'someone'}")  # fmt: skip
        run("x509", "-req", "-in", f"{side}.csr", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-CAcreateserial",
            "-extfile", "names", "-out", f"{side}-cert.pem", "-days", "9")  # fmt: skip


@needs_qemu_img
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_clients_speak_tls_where_they_are_to(qmpd: VMFactory, image: Path, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    vm = disk(qmpd, image, clock="real")
    monitor = Monitor(vm.qmp_path)
    for name, endpoint in (("s", "server"), ("c", "client")):
        made = monitor("object-add", qom_type="tls-creds-x509", id=name, dir=str(tmp_path), endpoint=endpoint)
        assert made == {"return": {}}
    address = {"type": "unix", "data": {"path": str(tmp_path / "n.sock")}}
    refused = monitor("nbd-server-start", addr=address, tls_creds="c")
    assert refused["error"]["desc"] == "Expected TLS credentials for a server endpoint"
    assert monitor("nbd-server-start", addr=address, tls_creds="s") == {"return": {}}
    monitor("block-export-add", type="nbd", id="r", node_name="n0", name="r")
    exporting = Exporting(monitor, address["data"]["path"])  # type: ignore[index]
    plain = exporting.qemu_io("read 0 512", name="r")
    assert "TLS" in plain
    options = f"driver=nbd,path={exporting.path},export=r,tls-creds=t,tls-hostname=localhost"
    said = subprocess.run(
        ["qemu-img", "info", "--object", f"tls-creds-x509,id=t,dir={tmp_path},endpoint=client", "--image-opts",
         options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "virtual size: 16 MiB" in said.stdout, said.stderr
    monitor.close()


class Offered:
    """An export (`qmpd.block.exports.negotiation.Offer`)."""

    name, description, size, flags, alignment = "a", "words", MEBIBYTE, 1, 1
    contexts = ("base:allocation", "qemu:dirty-bitmap:b")


class Catalogue:
    def offers(self) -> list[Any]:
        return [Offered]

    def offer(self, name: str) -> Any:
        return Offered if name == "a" else None


numbers = st.integers(0, 12)
options = st.builds(
    lambda option, data: OPTION.pack(OPTION_MAGIC, option, len(data)) + data,
    numbers, st.binary(max_size=24) | st.just(b"\0\0\0\1a\0\0") | st.just(b"\0\0\0\1a\0\0\0\1\0\0\0\5base:"),
)  # fmt: skip


@given(said=st.lists(options | st.binary(max_size=40), max_size=8), cuts=st.lists(st.integers(1, 30)))
@settings(max_examples=200, deadline=None)
def test_a_negotiation_survives_what_is_said(said: list[bytes], cuts: list[int]) -> None:
    """However the bytes are cut, the same answers come; and each option is answered, refused, or ends it."""

    def answers(cuts: list[int]) -> tuple[bytes, Event]:
        negotiation = Negotiation(Catalogue())
        left, sent = b"\0\0\0\3" + b"".join(said), b""
        for cut in [*cuts, len(left)]:
            negotiation.receive(left[:cut])
            left = left[cut:]
            event = negotiation.next_event()
            sent += negotiation.take()
            if event is not Event.NEED_DATA:
                break
        return sent, event

    assert answers(cuts) == answers([])


requests = st.builds(
    lambda flags, kind, offset, length: REQUEST.pack(REQUEST_MAGIC, flags, kind, 7, offset, length),
    st.integers(0, 32), st.sampled_from([0, 3, 4, 5, 6, 7, 9]), st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 32) - 1),
)  # fmt: skip


@given(said=st.lists(requests | st.binary(max_size=30), max_size=6))
@settings(max_examples=100, deadline=None)
def test_requests_are_read_or_refused(said: list[bytes]) -> None:
    negotiation = Negotiation(Catalogue())
    negotiation.receive(b"\0\0\0\3" + OPTION.pack(OPTION_MAGIC, 1, 1) + b"a" + b"".join(said))
    assert negotiation.next_event() is Event.CHOSEN
    assert negotiation.agreement is not None
    transmission = Transmission(negotiation.agreement, negotiation.rest())
    with contextlib.suppress(BrokenProtocol):
        while (request := transmission.next_request()) is not None:
            refused = transmission.refusal(request, Offered.flags)
            if refused is None:
                assert request.command in {0, 1, 3, 4, 5, 6}
                assert request.command == 3 or request.offset + request.length <= Offered.size


@pytest.mark.parametrize(("release", "tcp"), [("5.2", False), ("7.2", True)])
def test_the_human_monitor_starts_the_server(qmpd: VMFactory, release: str, tcp: bool) -> None:
    monitor = Monitor(qmpd(command_line=["-machine", "none"], release=release, clock="real").qmp_path)
    assert monitor.human("nbd_server_start -w 127.0.0.1:0") == "Error: -w only valid together with -a\n"
    assert monitor.human("nbd_server_start 127.0.0.1") == "Error: error parsing address '127.0.0.1'\n"
    wrong = "address resolution failed for tcp:127.0.0.1:0: Servname not supported for ai_socktype"
    assert monitor.human("nbd_server_start tcp:127.0.0.1:0") == ("" if tcp else f"Error: {wrong}\n")
    assert monitor.human("nbd_server_stop") == ("" if tcp else "Error: NBD server not running\n")
    assert monitor.human("nbd_server_start -a -w [::1]:0") == ""
    assert monitor.human("nbd_server_stop") == ""
    monitor.close()


def _option(client: socket.socket, option: int, data: bytes = b"") -> list[tuple[int, bytes]]:
    """What a server answers to an option: kinds and data, up to the last."""
    client.sendall(struct.pack(">QII", 0x49484156454F5054, option, len(data)) + data)
    found: list[tuple[int, bytes]] = []
    while not found or found[-1][0] not in (1, *(1 << 31 | number for number in range(1, 11))):
        magic, told, kind, length = struct.unpack(">QIII", receive(client, 20))
        assert (magic, told) == (0x3E889045565A9, option)
        found.append((kind, receive(client, length)))
    return found


def _chunk(client: socket.socket) -> tuple[int, int, int, bytes]:
    """An extended reply's chunk: kind, cookie, offset, data."""
    magic, flags, kind, cookie, offset, length = struct.unpack(">IHHQQQ", receive(client, 32))
    assert (magic, flags) == (0x6E8A278C, 1)
    return kind, cookie, offset, receive(client, length)


def _named(text: str) -> bytes:
    return struct.pack(">I", len(text)) + text.encode()


@pytest.mark.parametrize("release", ["7.2", "10.0"])
def test_lengths_of_64_bits_where_the_release_has_them(qmpd: VMFactory, tmp_path: Path, release: str) -> None:
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(10 << 30)
    node = json.dumps({"driver": "raw", "node-name": "n", "discard": "unmap",
                       "file": {"driver": "file", "filename": str(path)}})  # fmt: skip
    vm = qmpd(command_line=["-machine", "none", "-blockdev", node], release=release)
    server = {"type": "unix", "data": {"path": str(tmp_path / "nbd")}}
    with contextlib.closing(Monitor(vm.qmp_path)) as monitor, socket.socket(socket.AF_UNIX) as client:
        monitor("nbd-server-start", addr=server)
        assert monitor("block-export-add", type="nbd", id="x", node_name="n", writable=True) == {"return": {}}
        client.settimeout(10)
        client.connect(str(tmp_path / "nbd"))
        receive(client, 18)
        client.sendall(struct.pack(">I", 3))
        answer = _option(client, 11)
        if release == "7.2":
            assert answer == [(1 << 31 | 1, b"Unsupported option 11 (<unknown>)")]
            return
        assert answer == [(1, b"")]
        assert _option(client, 8)[0] == (1 << 31 | 10, b"extended headers already negotiated")
        _option(client, 10, _named("n") + struct.pack(">I", 1) + _named("base:allocation"))
        (_, info), *_ = [each for each in _option(client, 7, _named("n") + bytes(2)) if each[1][:2] == b"\0\0"]
        assert struct.unpack(">HQH", info)[2] & 1 << 12

        def ask(flags: int, command: int, offset: int, length: int, data: bytes = b"") -> tuple[int, int, bytes]:
            client.sendall(struct.pack(">IHHQQQ", 0x21E41C71, flags, command, 77, offset, length) + data)
            kind, cookie, told, found = _chunk(client)
            assert cookie == 77
            return kind, told, found

        assert ask(32, 1, 8 << 30, 512, b"\7" * 512) == (0, 8 << 30, b"")
        assert ask(0, 6, 0, 7 << 30) == (0, 0, b"")
        kind, _, status = ask(0, 7, 0, 10 << 30)
        assert (kind, status[:4]) == (6, bytes(4))
        length, told = struct.unpack_from(">QQ", status, 8)
        assert (length, told) == (8 << 30, 3)
        # Of these contexts, from a length of its own on.
        assert ask(32, 7, 0, 12, struct.pack(">QI", 4096, 0))[0] == 6
        assert ask(32, 7, 0, 12, struct.pack(">QI", 4096, 9))[2][6:] == b"need non-zero length"
        assert b"unsupported flags" in ask(32, 4, 0, 4, b"odd!")[2]
        assert ask(0, 0, 8 << 30, 512) == (1, 8 << 30, struct.pack(">Q", 8 << 30) + b"\7" * 512)
