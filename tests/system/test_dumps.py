"""Dumps of the guest's memory: files that the tools for them read, on the machine's clock, without keeping anybody."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from qmpd.system.dumps import elf, kdump
from qmpd.system.dumps.memory import PAGE, GuestMemory
from tests.block.support import Monitor

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.testing import VM, VMFactory

_SIZE = (64 << 20) + (256 << 10)


def _machine(qmpd: VMFactory, *more: str, clock: str = "virtual") -> VM:
    return qmpd(command_line=["-machine", "pc", "-nodefaults", "-m", "64", *more], guest="", clock=clock)


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed")
def test_a_dump_is_an_elf_file_with_the_memory_in_it(qmpd: VMFactory, tmp_path: Path) -> None:
    vm = _machine(qmpd, "-smp", "2")
    path = tmp_path / "core"
    with closing(Monitor(vm.qmp_path)) as monitor:
        reply = monitor("dump-guest-memory", paging=False, protocol=f"file:{path}", detach=True)
        assert reply == {"return": {}}
        assert monitor("query-status")["return"]["status"] == "save-vm"
        assert monitor("query-dump")["return"] == {"status": "active", "completed": 0, "total": _SIZE}
        refused = monitor("cont")["error"]["desc"]
        assert refused == monitor("stop")["error"]["desc"] == "There is a dump in process, please wait."
        vm.clock.advance("250ms")
        assert 0 < monitor("query-dump")["return"]["completed"] < _SIZE
        vm.clock.advance("350ms")
        done = vm.wait_for_event("DUMP_COMPLETED")
        assert done.data == {"result": {"status": "completed", "completed": _SIZE, "total": _SIZE}}
        assert monitor("query-status")["return"]["status"] == "running"
    told = subprocess.run(["readelf", "-hln", path], capture_output=True, text=True, check=True)
    assert "CORE (Core file)" in told.stdout
    assert told.stdout.count("LOAD ") == 2 + len(_BEFORE_FIRMWARE)
    assert told.stdout.count("NT_PRSTATUS") == told.stdout.count("QEMU  ") == 2
    assert told.stderr == ""
    assert path.stat().st_size > _SIZE
    assert path.stat().st_blocks * 512 < 1 << 20


_BEFORE_FIRMWARE = [0xC0000, 0xE0000, 0x100000]
_BIOS, _CARD = 0xFFFC0000, 0xFD000000


@pytest.mark.parametrize(
    ("card", "before", "after"),
    [
        ("none", [0, *_BEFORE_FIRMWARE, _BIOS], [0, _BIOS]),
        ("std", [0, *_BEFORE_FIRMWARE, _BIOS], [0, 0xC0000, _CARD, _BIOS]),
    ],
)
def test_memory_is_where_the_firmware_has_put_it(
    qmpd: VMFactory, tmp_path: Path, card: str, before: list[int], after: list[int]
) -> None:
    # Measured on 7.2 and 10.0.
    vm = _machine(qmpd, "-vga", card)
    path = tmp_path / "core"

    def addresses() -> list[int]:
        path.unlink(missing_ok=True)  # it is for reading alone
        with closing(Monitor(vm.qmp_path)) as monitor:
            assert monitor("dump-guest-memory", paging=False, protocol=f"file:{path}", detach=True) == {"return": {}}
        vm.clock.advance("1s")
        vm.wait_for_event("DUMP_COMPLETED")
        header = path.read_bytes()[: 1 << 12]
        place, count = struct.unpack_from("<Q", header, 32)[0], struct.unpack_from("<H", header, 56)[0]
        return [struct.unpack_from("<Q", header, place + number * 56 + 24)[0] for number in range(1, count)]

    assert addresses() == before
    vm.clock.advance("100ms")
    assert addresses() == after
    with closing(Monitor(vm.qmp_path)) as monitor:
        monitor("system_reset")
    assert addresses() == before


def test_what_is_in_memory_is_in_the_dumps(tmp_path: Path) -> None:
    pages = {3: b"\3" * PAGE, (1 << 20) + 2: b"\7" * PAGE}
    memory = GuestMemory([(0, 1 << 20), (4 << 30, (4 << 30) + 8 * PAGE)], pages)
    plan = elf.plan(memory, 1, long_mode=True)
    found = {piece.offset: piece.data for piece in plan.pieces if piece.what == "memory"}
    assert sorted(set(data) for data in found.values()) == [{3}, {7}]
    first, second = sorted(found)
    assert second - first == (1 << 20) - 3 * PAGE + 2 * PAGE
    dumped = _kdump_pages(memory)
    assert {number: dumped[number] for number in pages} == pages
    assert dumped[0] == dumped[(1 << 20) + 7] == bytes(PAGE)
    assert len(dumped) == 256 + 8


def _kdump_pages(memory: GuestMemory) -> dict[int, bytes]:
    """The pages in a dump of kdump's format, by their numbers, as its description has a reader find them."""
    whole = bytearray()
    flat = b"".join(piece.data for piece in kdump.plan(memory, 1, flat=True).pieces)
    assert flat.startswith(b"makedumpfile\0")
    at = PAGE
    while True:
        offset, size = struct.unpack_from(">qq", flat, at)
        at += 16
        if offset < 0:
            break
        whole.extend(bytes(max(0, offset + size - len(whole))))
        whole[offset : offset + size] = flat[at : at + size]
        at += size
    assert bytes(whole[:8]) == b"KDUMP   "
    block, second, bitmap = struct.unpack_from("<III", whole, 428)
    start = (1 + second) * block
    bits = whole[start : start + bitmap * block // 2]
    assert bits == whole[start + bitmap * block // 2 : start + bitmap * block]
    numbers = [each for each in range(len(bits) * 8) if bits[each // 8] >> each % 8 & 1]
    found = {}
    for place, number in enumerate(numbers):
        offset, size, flags, _ = struct.unpack_from("<qIIQ", whole, start + bitmap * block + place * 24)
        assert flags == 1
        found[number] = zlib.decompress(whole[offset : offset + size])
    return found


def test_a_failing_dump_lets_the_machine_go_on(qmpd: VMFactory) -> None:
    vm = _machine(qmpd, clock="real")
    with closing(Monitor(vm.qmp_path)) as monitor:
        said = monitor("dump-guest-memory", paging=False, protocol="file:/dev/full")["error"]["desc"]
        assert said == "dump: failed to write elf header: No space left on device"
        assert [each["event"] for each in monitor.events] == ["STOP", "DUMP_COMPLETED", "RESUME"]
        assert monitor("query-dump")["return"]["status"] == "failed"


def test_a_pipe_that_nobody_reads_keeps_the_dump_alone(qmpd: VMFactory, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    vm = _machine(qmpd, clock="real")
    with closing(Monitor(vm.qmp_path)) as monitor:
        assert "No such device" in monitor("dump-guest-memory", paging=False, protocol=f"file:{pipe}")["error"]["desc"]
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        assert monitor("dump-guest-memory", paging=False, protocol=f"file:{pipe}", detach=True) == {"return": {}}
        assert monitor("query-dump")["return"]["status"] == "active"
        os.set_blocking(reader, True)
        sizes: list[int] = []

        def read() -> None:
            while data := os.read(reader, 1 << 20):
                sizes.append(len(data))

        thread = threading.Thread(target=read)
        thread.start()
        vm.wait_for_event("DUMP_COMPLETED")
        thread.join(20)
        os.close(reader)
    assert sum(sizes) > _SIZE


def test_parts_of_memory_are_saved(qmpd: VMFactory, tmp_path: Path) -> None:
    vm = _machine(qmpd)
    path = tmp_path / "part"
    with closing(Monitor(vm.qmp_path)) as monitor:
        assert monitor("pmemsave", val=0, size=100_000, filename=str(path)) == {"return": {}}
        assert path.read_bytes() == bytes(100_000)
        said = monitor("memsave", val=1 << 40, size=16, filename=str(path))["error"]["desc"]
        assert said == "Invalid addr 0x0000010000000000/size 16 specified"


def test_the_descriptions_of_states_are_written_and_the_program_ends(tmp_path: Path) -> None:
    path = tmp_path / "states.json"
    program = "from qmpd.emulator.program import main; raise SystemExit(main())"
    options = ["-machine", "q35", "-nographic", "-dump-vmstate", str(path)]
    subprocess.run([sys.executable, "-c", program, *options], capture_output=True, check=True, timeout=30)
    written = json.loads(path.read_text())
    assert written["vmschkmachine"]["Name"].startswith("pc-q35-")
    assert written["virtio-rng-device"]["Description"]["name"]
