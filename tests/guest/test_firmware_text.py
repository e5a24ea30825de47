"""What the firmware prints on the serial port of a machine without a screen, beside real QEMU where there is one."""

from __future__ import annotations

import gzip
import json
import os
import re
import select
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from qmpd.guest.firmware_text import BootDevices, boot, greeting, tried
from qmpd.system.boot_devices import boot_devices
from tests.emulator.support import PROGRAM, environment
from tests.objects.support import InProcess
from tests.real_qemu import programs

GOLDEN = Path(__file__).parents[1] / "golden" / "firmware" / "serial.jsonl.gz"
PNP = "PCI2.10 PnP PMM"
NONE = frozenset[str]()
CLEAR = b"\x1bc\x1b[?7l\x1b[2J\x1b[0m"
END = b"No bootable device.\r\n"


def printed(program: list[str], release: str, *options: str, guest: str = "", end: bytes = END) -> bytes:
    """What comes from standard output until it ends so."""
    line = [*program, "-nographic", "-net", "none", *options]
    told = environment(release, f"-guest {guest}" if guest else "")
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=told) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = b""
        while not said.endswith(end):
            assert select.select([process.stdout], [], [], 20)[0], said
            data = os.read(process.stdout.fileno(), 1 << 12)
            assert data, said
            said += data
        process.stdin.write(b"\x01x")
        process.stdin.close()
        process.stdout.read()
    assert process.returncode == 0
    return said


@pytest.mark.parametrize("release", sorted(programs()))
@pytest.mark.parametrize("options", [["-machine", "pc", "-boot", "once=d,order=c"], ["-machine", "q35"]])
def test_beside_real_qemu(release: str, options: list[str]) -> None:
    assert printed(PROGRAM, release, *options) == printed(programs()[release], release, *options)


RECORDED = [json.loads(line) for line in gzip.decompress(GOLDEN.read_bytes()).splitlines()]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda each: f"{each['release']} {' '.join(each['options'])}")
def test_what_real_programs_have_printed(recorded: dict[str, Any]) -> None:
    """Each with `-display none -machine graphics=off -monitor none -serial`, to a socket, until nothing boots."""
    options = ["-machine", "graphics=off", "-display", "none", "-monitor", "none", "-serial", "null", "-S"]
    system = InProcess(recorded["release"], [*options, *recorded["options"]]).system
    devices = boot_devices(system)
    assert devices is not None
    words = system.release.behaviour.seabios_greeting
    assert (greeting(words, devices) + boot(devices, found=False)).decode() == recorded["said"]


def devices_of(*options: str) -> BootDevices:
    """What the firmware of 7.2 finds in such a machine."""
    devices = boot_devices(InProcess("7.2", ["-display", "none", "-S", *options]).system)
    assert devices is not None
    return devices


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (["-device", "virtio-rng-pci", "-device", "e1000", "-device", "e1000"],
         [f"00:04.0 CA00 {PNP}+06FCF0C0+06F0F0C0 CA00", f"00:05.0 CB00 {PNP} 06FCF0C0 06F0F0C0 CB00"]),
        (["-device", "e1000", "-vga", "none"], [f"00:02.0 C000 {PNP}+06FCF1B0+06F0F1B0 C000"]),
        (["-device", "e1000", "-m", "4096"], [f"00:03.0 CA00 {PNP}+BEFCF160+BEF0F160 CA00"]),
        (["-device", "e1000", "-vga", "none", "-device", "ramfb"],
         [f"00:02.0 C780 {PNP}+06FCF010+06F0F010 C780"]),
        (["-machine", "q35", "-device", "e1000", "-device", "ioh3420,id=r", "-device", "virtio-net-pci,bus=r"],
         [f"00:02.0 CA00 {PNP}+06FCEE50+06F0EE50 CA00", f"01:00.0 CB00 {PNP}+06EFBE50 06F0EE50 CB00"]),
        (["-device", "e1000,rombar=0"], []),
        (["-device", "e1000,romfile="], []),
    ],
)  # fmt: skip
def test_where_the_roms_are(options: list[str], lines: list[str]) -> None:
    """As QEMU 7.2 prints it."""
    devices = devices_of("-net", "none", *options)
    assert re.findall(r"ipxe.org\) ([^\r]*)", greeting("", devices).decode()) == lines


_NULL = "driver=null-co,size=1M,read-zeroes=on"
_HD = ["-drive", f"if=none,id=h,{_NULL}", "-device"]
_CD = ["-drive", f"if=none,id=c,media=cdrom,{_NULL}", "-device"]


@pytest.mark.parametrize(
    ("options", "order", "memory"),
    [
        ([*_CD, "ide-cd,drive=c,bootindex=1"], "dca", ""),
        ([*_CD, "ide-cd,drive=c,bootindex=1", *_HD, "ide-hd,drive=h,bootindex=2"], "dca", ""),
        ([*_CD, "ide-cd,drive=c", *_HD, "ide-hd,drive=h,bootindex=1", "-boot", "strict=on"], "c", ""),
        (["-boot", "strict=on"], "cad", ""),
        (["-device", "e1000,bootindex=1"], "ncad", "06FCF0C0"),
        ([*_HD, "ide-hd,drive=h,bootindex=2", "-device", "e1000,bootindex=4", "-boot", "strict=on"], "cn", "06FCF0A0"),
    ],
)
def test_what_has_a_number_is_tried_before_all_else(options: list[str], order: str, memory: str) -> None:
    """As by QEMU 7.2."""
    devices = devices_of("-net", "none", *options)
    assert "".join(tried(devices)) == order
    assert re.findall(r"PMM.(\w+)", greeting("", devices).decode()) == ([memory] if memory else [])


def kernel(place: Path) -> str:
    """A file that has the head of a Linux kernel."""
    content = bytearray(512 * 3)
    content[0x1F1], content[0x1FE:0x208], content[0x211] = 1, b"\x55\xaa\xeb\x6aHdrS\x03\x02", 1
    place.write_bytes(content)
    return str(place)


def test_a_kernel_is_started_behind_the_roms(tmp_path: Path) -> None:
    """As by QEMU 7.2, which keeps more memory then."""
    devices = devices_of("-nic", "user", "-kernel", kernel(tmp_path / "k"))
    assert "PMM+06FCF000+06F0F000 CA00" in greeting("", devices).decode()
    assert boot(devices, found=True) == b"Booting from ROM.."


@pytest.mark.parametrize(("release", "said"), [("7.2", b""), ("10.0", b"SeaBIOS (version 1.16.3-debian-1.16.3-2)\r\n")])
def test_microvm_has_seabios_in_some_releases(tmp_path: Path, release: str, said: bytes) -> None:
    options = ["-machine", "microvm,graphics=off", "-display", "none", "-S", "-kernel", kernel(tmp_path / "k")]
    system = InProcess(release, [*options, "-uuid", "7b6a1c5e-0d3f-4b8f-9a70-0123456789ab"]).system
    devices = boot_devices(system)
    found = b"" if devices is None else greeting(system.release.behaviour.seabios_greeting, devices)
    assert found == (CLEAR + said if said else b"")


def test_what_is_said_at_once_is_not_lost_where_the_device_connects(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        listening.settimeout(10)
        line = [*PROGRAM, "-nographic", "-net", "none", "-monitor", "none", "-serial", f"unix:{tmp_path}/s"]
        with subprocess.Popen(line, env=environment("7.2"), stderr=subprocess.DEVNULL) as process:
            client, _ = listening.accept()
            with client, client.makefile("rb") as said:
                assert said.readline() == CLEAR + b"SeaBIOS (version 1.16.2-debian-1.16.2-1)\r\n"
            process.terminate()
            process.wait(10)


def test_an_operating_system_is_found() -> None:
    said = printed(PROGRAM, "10.0", guest="boot-time=1h", end=b"Disk...\r\n")
    assert said == CLEAR + b"SeaBIOS (version 1.16.3-debian-1.16.3-2)\r\nBooting from Hard Disk...\r\n"


@pytest.mark.parametrize(
    ("devices", "found", "said"),
    [
        (BootDevices("cad", frozenset("d"), frozenset("ad")), True,
         b"Booting from Hard Disk...\r\nBoot failed: could not read the boot disk\r\n\n"
         b"Booting from Floppy...\r\nBoot failed: could not read the boot disk\r\n\nBooting from DVD/CD...\r\n"),
        (BootDevices("cad", NONE, NONE, kernel=True), True, b"Booting from ROM.."),
        (BootDevices("cad", NONE, NONE, first="n", strict=True), True, b"Booting from ROM...\r\n"),
        (BootDevices("dca", NONE, NONE), True, b"Booting from Hard Disk...\r\n"),
        (BootDevices("cad", frozenset("cd"), frozenset("acd")), False,
         b"Booting from Hard Disk...\r\nBoot failed: not a bootable disk\r\n\n"
         b"Booting from Floppy...\r\nBoot failed: could not read the boot disk\r\n\n"
         b"Booting from DVD/CD...\r\nBoot failed: Could not read from CDROM (code 0005)\r\n" + END),
    ],
)  # fmt: skip
def test_what_is_tried(devices: BootDevices, found: bool, said: bytes) -> None:
    assert boot(devices, found=found) == said


@pytest.mark.parametrize(
    ("drives", "orders"),
    [
        ("", {"cad": "ca", "d": "ca", "a": "ca", "c": "ca", "": "ca"}),
        ("c", {"cad": "ca", "d": "ca", "a": "ca", "c": "ca"}),
        ("a", {"cad": "ca", "d": "ac", "a": "ac", "c": "ca"}),
        ("d", {"cad": "cda", "d": "dca", "a": "dca", "c": "cda"}),
        ("cd", {"cad": "cda", "d": "dca", "a": "cda", "c": "cda"}),
        ("ad", {"cad": "cad", "d": "dac", "a": "adc", "c": "cad"}),
        ("acd", {"cad": "cad", "d": "dac", "a": "acd", "c": "cad", "n": "acd", "dca": "dca", "nd": "dac"}),
    ],
)
def test_what_is_named_is_tried_first(drives: str, orders: dict[str, str]) -> None:
    """As QEMU 7.2 with such drives does."""
    found = {order: "".join(tried(BootDevices(order, NONE, frozenset(drives)))) for order in orders}
    assert found == orders
