"""Random streams of packets, put to the real programs that are here and to qmpd: byte for byte the same comes back.

The machine does not run, so the whole stream is sent at once and the whole answer compared.  Left out is what ends the
real program, what makes the CPU execute something, and what depends on memory that nobody has initialized.
"""

from __future__ import annotations

import random
import select
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import trio

from qmpd.debugger.packets import packet
from tests.debugger.player import Served
from tests.real_qemu import programs

RELEASES = ("5.2", "7.2", "10.0", "11.1")
OPTIONS = ("-S", "-smp", "2", "-m", "64")
PACKETS = 500
_LAST = b"qemu.sstepbits"
_END = packet(b"ENABLE=1,NOIRQ=2,NOTIMER=4")
_PATIENCE = 20.0


class Talker:
    """Makes up packets."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def stream(self) -> bytes:
        """All that is sent: first what fills the buffers, and last what has an answer of its own."""
        start = b"".join(map(packet, (b"qXfer:features:read:target.xml:0,100", b"m0,800", b"g")))
        made = b"".join(self._noise(self._packet()) for _ in range(PACKETS))
        # Whatever state the reader is in, one of these is read.
        return start + made + b"+#00" + packet(b"q" + _LAST) + packet(b"q" + _LAST)

    def _noise(self, data: bytes) -> bytes:
        choice = self._random.randrange(40)
        if choice == 0:
            return data[:-2] + b"00"
        if choice == 1:
            return self._random.choice([b"+", b"-", b"garbage", b"+" + b"+-"]) + data
        if choice == 2:
            return b"+" + data
        if choice == 3:
            # A minus sign would make numbers that the real program takes for places before its tables.
            at, byte = self._random.randrange(len(data)), self._random.randrange(1, 127)
            return data[:at] + (b"_" if byte == ord("-") else bytes([byte])) + data[at + 1 :]
        return data

    def _packet(self) -> bytes:
        make = self._random.choice([
            self._register, self._register, self._read, self._write, self._breakpoint, self._thread, self._query,
            self._all_registers, self._malformed,
        ])  # fmt: skip
        return packet(make().encode("latin-1"))

    def _hex(self, size: int) -> str:
        return self._random.randbytes(size).hex()

    def _register(self) -> str:
        number = self._random.randrange(0x46)
        if self._random.random() < 0.5:
            return f"p{number:x}"
        return f"P{number:x}={self._hex(self._random.choice([1, 4, 8, 8, 10, 16]))}"

    def _all_registers(self) -> str:
        return self._random.choice(["g", "g", "?", "G" + self._hex(8 * self._random.randrange(24))])

    def _place(self) -> int:
        low, high = self._random.choice([(0, 0x9000), (0x100000, 0x180000), (0x3FFFF00, 0x4000100), (1 << 32, 1 << 33)])
        return self._random.randrange(low, high)

    def _read(self) -> str:
        return f"m{self._place():x},{self._random.choice([0, 1, 4, 100, 0x800, 0x801]):x}"

    def _write(self) -> str:
        size = self._random.randrange(1, 40)
        stated = size + self._random.choice([0, 0, 0, -1, 1])
        return f"M{self._place():x},{max(stated, 0):x}:{self._hex(size)}"

    def _breakpoint(self) -> str:
        kind, address = self._random.randrange(7), self._random.choice([0, 1, 0x1000, 0x1004, (1 << 64) - 1])
        return f"{self._random.choice('Zz')}{kind},{address:x},{self._random.choice([0, 1, 2, 4, 0x1000]):x}"

    def _thread(self) -> str:
        name = self._random.choice(["0", "1", "2", "3", "p1.1", "p1.2", "p2.1", "p0.0", "p1.0", "zz", "", "01"])
        head = self._random.choice(["Hg", "Hc", "Hx", "T", "qThreadExtraInfo,"])
        return head + name

    def _query(self) -> str:
        return self._random.choice([
            "qC", "qfThreadInfo", "qsThreadInfo", "qSupported", "qSupported:multiprocess+", "qAttached", "vCont?",
            "qqemu.sstep", "Qqemu.sstep=7", "Qqemu.sstep=3", "qqemu.PhyMemMode", "qqemu.Supported", "vAttach;1", "!",
            "vAttach;0", "qRcmd,696e666f20737461747573", "qRcmd,6e6f70650a", "vCont;c:9", "vCont;x", "vMustReplyEmpty",
            f"qXfer:features:read:i386-64bit.xml:{self._random.randrange(9000):x},{self._random.randrange(3000):x}",
        ])  # fmt: skip

    def _malformed(self) -> str:
        letters = "!abdefgiptwxyABEIJLNOPRSUVWXYZ0123456789,;:=+"
        return "".join(self._random.choice(letters) for _ in range(self._random.randrange(6)))


def answer_of(program: list[str], stream: bytes) -> bytes:
    """What a real program answers to a stream."""
    root = program[1] if program[0] == "chroot" else ""
    with tempfile.TemporaryDirectory(prefix="qmpd-", dir=f"{root}/tmp") as folder:
        path = Path(folder) / "gdb.sock"
        argv = [*program, "-display", "none", "-nodefaults", *OPTIONS]
        argv += ["-gdb", f"unix:{str(path).removeprefix(root)},server=on,wait=off"]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        client = socket.socket(socket.AF_UNIX)
        try:
            deadline = time.monotonic() + _PATIENCE
            while client.connect_ex(str(path)):
                assert time.monotonic() < deadline, "it does not listen"
                time.sleep(0.02)
            return _talk(client, stream)
        finally:
            client.close()
            process.kill()
            process.wait()


def _talk(client: socket.socket, stream: bytes) -> bytes:
    client.setblocking(False)
    came = b""
    while _END not in came:
        readable, writable, _ = select.select([client], [client] if stream else [], [], _PATIENCE)
        assert readable or writable, f"no end came after {came[-200:]!r}"
        if writable:
            stream = stream[client.send(stream[:4096]) :]
        if readable:
            data = client.recv(1 << 16)
            assert data, f"it has ended after {came[-200:]!r}"
            came += data
    return came.partition(_END)[0]


async def our_answer(release: str, stream: bytes) -> bytes:
    with tempfile.TemporaryDirectory(prefix="qmpd-") as folder:
        served = Served(release, OPTIONS, folder)
        came = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.run)
            client = await trio.open_unix_socket(f"{folder}/gdb.sock")
            nursery.start_soon(client.send_all, stream)
            with trio.fail_after(_PATIENCE):
                while _END not in came:
                    came += await client.receive_some()
            await client.aclose()
            await served.end()
    return came.partition(_END)[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("release", RELEASES)
async def test_any_packets_are_answered_as_the_real_program_does(release: str, seed: int) -> None:
    if release not in programs():
        pytest.skip(f"no QEMU {release} here")
    stream = Talker(seed).stream()
    real = await trio.to_thread.run_sync(answer_of, programs()[release], stream)
    ours = await our_answer(release, stream)
    at = next((place for place, (a, b) in enumerate(zip(real, ours, strict=False)) if a != b), None)
    around = slice(0, 0) if at is None else slice(max(at - 100, 0), at + 60)
    assert real == ours, f"at {at}: {ours[around]!r}, not {real[around]!r}"
