"""What the firmware prints on the serial port of a machine without a screen, beside real QEMU where there is one."""

from __future__ import annotations

import os
import select
import subprocess

import pytest

from qmpd.guest.firmware_text import BootDevices, boot, tried
from tests.emulator.support import PROGRAM, environment
from tests.real_qemu import programs

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
