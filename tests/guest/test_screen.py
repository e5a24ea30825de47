"""What is on the guest's screen: as text, and in pictures, whose sizes and texts are those of real QEMU."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmpd.control.guest import ScreenText
from qmpd.guest.font import HEIGHT, dots
from qmpd.guest.picture import ppm
from qmpd.guest.screen import COLUMNS, ROWS, Screen
from qmpd.system.screens import console_for, picture
from qmpd.testing import ControlError, start
from tests.emulator.support import PROGRAM, environment
from tests.objects.support import InProcess
from tests.real_qemu import programs
from tests.testing.client import Client

if TYPE_CHECKING:
    from pathlib import Path

RELEASES = ("5.2", "7.2", "10.0", "11.1")
TEXT, START, VC = (720, 400), (640, 480), (640, 384)
NOT_YET, IDLE = "Guest has not initialized the display (yet).", "Display output is not active."
HEAD = re.compile(rb"P6\n(\d+) (\d+)\n255\n")


def pixels(data: bytes) -> tuple[tuple[int, int], bytes]:
    """The size of a pixmap, and its pixels."""
    head = HEAD.match(data)
    assert head, data[:20]
    size = int(head[1]), int(head[2])
    assert len(data) - head.end() == size[0] * size[1] * 3
    return size, data[head.end() :]


def seen(data: bytes, cell: int = 8, left: int = 0, top: int = 0) -> list[str]:
    """The lines of text that can be read in a pixmap, each character by its dots."""
    (width, height), drawn = pixels(data)
    known = {dots(chr(number)): chr(number) for number in range(32, 127)}
    lines = []
    for row in range((height - top) // HEIGHT):
        line, place = "", (top + row * HEIGHT) * width * 3
        blank = not any(drawn[place : place + HEIGHT * width * 3])
        for column in () if blank else range((width - left) // cell):
            scans = []
            for scan in range(HEIGHT):
                place = ((top + row * HEIGHT + scan) * width + left + column * cell) * 3
                scans.append(sum((drawn[place + bit * 3] > 0) << 7 - bit for bit in range(8)))
            line += known.get(tuple(scans), "?")
        lines.append(line.rstrip())
    while lines and not lines[-1]:
        lines.pop()
    return lines


def taken(client: Client, path: Path, **more: Any) -> bytes:
    client.execute("screendump", filename=str(path), **more)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("options", "release", "at_start", "idle", "later"),
    [
        (["-vga", "std"], "7.2", START, NOT_YET, TEXT),
        (["-vga", "virtio"], "7.2", START, NOT_YET, TEXT),
        (["-vga", "virtio"], "10.0", START, IDLE, TEXT),
        (["-vga", "none", "-device", "secondary-vga"], "7.2", START, NOT_YET, START),
        (["-vga", "none", "-device", "virtio-gpu-pci"], "10.0", START, IDLE, START),
        (["-vga", "none", "-device", "bochs-display"], "5.2", START, NOT_YET, (1024, 768)),
        (["-vga", "none", "-device", "bochs-display"], "7.2", START, NOT_YET, (1280, 800)),
        (["-vga", "none", "-device", "bochs-display,xres=800,yres=608"], "7.2", START, NOT_YET, (800, 608)),
        (["-vga", "none", "-device", "VGA", "-device", "VGA"], "7.2", START, NOT_YET, START),
        (["-vga", "none"], "7.2", VC, "serial0 console", VC),
        (["-vga", "none", "-serial", "vc:400x320"], "7.2", (400, 320), "serial0 console", (400, 320)),
    ],
)
def test_pictures_are_as_large_as_those_of_real_programs(
    options: list[str], release: str, at_start: tuple[int, int], idle: str, later: tuple[int, int]
) -> None:
    machine = InProcess(release, ["-machine", "pc", "-display", "none", "-S", *options])
    system, guest = machine.system, machine.system.guest
    assert guest is not None
    first = ppm(picture(system, console_for(system, None, None)))
    assert pixels(first)[0] == at_start
    left, top = ((80 - len(idle)) // 2 * 8, 14 * 16) if at_start == START else (0, 0)
    assert seen(first, 8, left, top) == [idle]
    machine.said("cont")
    machine.clock.advance(1_000_000_000)
    machine.said("query-status")
    last = ppm(picture(system, console_for(system, None, None)))
    assert pixels(last)[0] == later
    if later not in (START, at_start):
        assert seen(last, 9 if later == TEXT else 8)[0].startswith("SeaBIOS (version 1.")


def test_the_firmware_and_the_guest_print_on_the_screen(tmp_path: Path) -> None:
    script = tmp_path / "g.toml"
    script.write_text("""
        [guest]
        boot-time = "1s"
        [[on]]
        event = "running"
        show = "\\u001b[2J\\u001b[HDebian GNU/Linux 12\\r\\n\\r\\nhost login: "
        """)
    guest = f"script={script}"
    with start(guest=guest, clock="virtual", release="7.2", options=["-S", "-device", "VGA"]) as vm:
        client = Client(vm.qmp_path)
        assert vm.guest.screen() == ScreenText(False, [], 0, 0)
        client.execute("cont")
        vm.clock.advance("500ms")
        firmware = ["SeaBIOS (version 1.16.2-debian-1.16.2-1)", "Booting from Hard Disk..."]
        assert vm.guest.screen().lines == firmware
        assert seen(taken(client, tmp_path / "p"), cell=9)[:2] == firmware
        vm.clock.advance("1s")
        shown = vm.guest.screen()
        assert shown == ScreenText(True, ["Debian GNU/Linux 12", "", "host login:"], 2, 12)
        assert seen(taken(client, tmp_path / "p"), cell=9)[0] == shown.lines[0]
        saved = vm.snapshot()
        vm.guest.show("root\r\n")
        assert vm.guest.screen().lines[2:] == ["host login: root"]
        client.execute("system_reset")
        vm.clock.advance("500ms")
        assert vm.guest.screen().lines == firmware
        client.close()
        vm.restore(saved)
        assert vm.guest.screen() == shown


def test_the_screen_is_that_of_the_media_at_boot() -> None:
    machine = InProcess("7.2", ["-machine", "pc", "-display", "none", "-S", "-cdrom", os.devnull])
    assert machine.system.guest is not None
    machine.said("cont")
    for _ in range(3):
        machine.clock.advance(100_000_000)
        machine.said("query-status")
    machine.said("eject", device="ide1-cd0", force=True)
    lines = machine.system.guest.have_screen().show().lines
    assert "Boot failed: Could not read from CDROM (code 0005)" in lines


def test_a_machine_without_a_screen() -> None:
    with start(guest="", clock="virtual") as vm:
        for asked in (vm.guest.screen, lambda: vm.guest.show("x")):
            with pytest.raises(ControlError, match="no screen"):
                asked()


def test_both_formats_have_the_same_pixels(tmp_path: Path) -> None:
    with start(clock="virtual", release="7.2", options=["-S", "-device", "VGA"]) as vm, Client(vm.qmp_path) as client:
        client.execute("cont")
        vm.clock.advance("1s")
        size, plain = pixels(taken(client, tmp_path / "p"))
        data, place, lines = taken(client, tmp_path / "q", format="png"), 8, b""
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert struct.unpack(">IIBBBBB", data[16:29]) == (*size, 8, 2, 0, 0, 0)
        while place < len(data):
            length, kind = struct.unpack(">I4s", data[place : place + 8])
            content = data[place + 8 : place + 8 + length]
            assert struct.unpack(">I", data[place + 8 + length :][:4])[0] == zlib.crc32(kind + content)
            lines += zlib.decompress(content) if kind == b"IDAT" else b""
            place += length + 12
        width = size[0] * 3
        assert plain == b"".join(lines[at + 1 : at + 1 + width] for at in range(0, len(lines), width + 1))


ASKED: tuple[dict[str, Any], ...] = (
    {}, {"device": "nosuch"}, {"head": 0}, {"device": ""}, {"device": "/machine"}, {"device": "v", "head": 1},
    {"device": "/machine/peripheral/v"}, {"device": "g", "head": 1}, {"device": "g", "head": 2}, {"device": "s"},
    {"filename": "/nonexistent/x"}, {"filename": "/tmp"}, {"filename": ""}, {"filename": "/dev/fdset/1"},
    {"filename": "/dev/fdset/2"}, {"filename": "/dev/fdset/7"}, {"filename": "/dev/fdset/x"},
)  # fmt: skip


def answers(program: list[str], release: str, options: list[str], path: Path) -> list[object]:
    """What screendump answers to all of these, where set 1 can be written and set 2 read."""
    line = [*program, "-machine", "pc", "-display", "none", "-S", *options, "-qmp", "stdio"]
    with open(path, "wb") as writable, open(os.devnull, "rb") as readable:
        numbers = writable.fileno(), readable.fileno()
        for number, identifier in zip(numbers, (1, 2), strict=True):
            line += ["-add-fd", f"fd={number},set={identifier}"]
        asked: list[dict[str, Any]] = [{"execute": "qmp_capabilities"}]
        asked += [{"execute": "screendump", "arguments": {"filename": os.devnull, **each}} for each in ASKED]
        # The one that waits for the file goes before the next is asked.
        text = "\n".join(map(json.dumps, [*asked, {"execute": "quit"}]))
        done = subprocess.run(
            line, input=text, capture_output=True, text=True, check=False, timeout=30, pass_fds=numbers,
            env=environment(release),
        )  # fmt: skip
    said = [json.loads(each) for each in done.stdout.splitlines()]
    found = [each.get("error", {}).get("desc", "done") for each in said if "error" in each or "return" in each]
    assert len(found) >= len(ASKED) + 1, done.stderr
    return found[1 : len(ASKED) + 1]


@pytest.mark.parametrize("release", RELEASES)
def test_what_is_refused_is_what_qemu_refuses(tmp_path: Path, release: str) -> None:
    if release not in programs():
        pytest.skip(f"qemu-system-x86_64 {release} is not installed")
    devices = ["-nodefaults", "-device", "VGA,id=v", "-device", "virtio-gpu-pci,id=g,max_outputs=2"]
    for options in ([*devices, "-device", "virtio-serial,id=s"], ["-vga", "none"]):
        found = [answers(each, release, options, tmp_path / "p") for each in (PROGRAM, programs()[release])]
        assert found[0] == found[1]


@pytest.mark.parametrize(
    ("release", "form", "said"),
    [
        ("5.2", None, "Unable to write to file: No space left on device"),
        ("10.0", "ppm", "Unable to write to file: No space left on device"),
        ("10.0", "png", "PNG creation failed. Unable to close file: No space left on device"),
    ],
)
def test_a_picture_that_cannot_be_written_goes(tmp_path: Path, release: str, form: str | None, said: str) -> None:
    (tmp_path / "p").symlink_to("/dev/full")
    more = {} if form is None else {"format": form}
    options = ["-S", "-device", "VGA"]
    with start(clock="virtual", release=release, options=options) as vm, Client(vm.qmp_path) as client:
        answer = client.execute("screendump", filename=str(tmp_path / "p"), **more)
        assert answer["error"] == {"class": "GenericError", "desc": said}
        assert not os.path.lexists(tmp_path / "p")
        assert client.execute("screendump", filename="/dev/full", **more)["error"]["desc"] == said
        assert os.path.lexists("/dev/full")


@given(st.binary(max_size=300), st.integers(1, 90), st.integers(1, 30))
def test_whatever_is_printed_is_shown_within_the_screen(data: bytes, columns: int, rows: int) -> None:
    screen = Screen("", lambda _: None)
    screen.say(data)
    shown = screen.show(columns, rows)
    assert len(shown.lines) == rows
    assert all(len(line) <= columns for line in shown.lines)
    assert 0 <= shown.row < rows
    assert 0 <= shown.column < columns
    screen.say(b"\x1b\x1bc")
    assert screen.show(columns, rows) == ([""] * rows, 0, 0)


@given(st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=COLUMNS), max_size=60))
def test_the_last_lines_are_seen(lines: list[str]) -> None:
    screen = Screen("", lambda _: None)
    for number, line in enumerate(lines):
        screen.say((f"\r\n{line}" if number else line).encode())
    last = lines[-ROWS:]
    assert screen.show().lines == last + [""] * (ROWS - len(last))


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        ("ab\bc", ["ac"]), ("a\tb", ["a       b"]), ("abc\x1b[2D\x1b[Kx", ["ax"]), ("abc\x1b[1;2Hx", ["axc"]),
        ("ab\x1b[31mc\x1b[0m", ["abc"]), ("a\x1b[?25lb", ["ab"]), ("a\r\nb\x1b[A\x1b[1K", ["", "b"]),
        ("a\x1b[Jb\x1b[", ["ab"]), ("\u00e9", ["\u00e9"]), ("x" * 82, ["x" * 80, "xx"]),
    ],
)  # fmt: skip
def test_a_terminal_that_is_plain(said: str, lines: list[str]) -> None:
    screen = Screen("", lambda _: None)
    screen.say(said.encode())
    assert screen.show().lines[: len(lines) + 1] == [*lines, ""]
