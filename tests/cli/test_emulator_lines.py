"""What real QEMU made of command lines, against what qmpd-system-x86_64 makes of them."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.emulator import program as emulator
from qmpd.server import log
from qmpd.server.virtual_machine import VirtualMachine
from tests.golden import emulator_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.hardware.inventory import Inventory
    from qmpd.server.settings import VMSettings

OURS, THEIRS = "qmpd-system-x86_64", "qemu-system-x86_64"
KVM = {"7.2": True, "10.0": False}
"""Whether the computer on which a release was recorded had /dev/kvm."""
# What QEMU answers otherwise.
LEFT_OUT = emulator_line.left_out()


def without_serving(
    settings: VMSettings,
    on_start: Callable[[], None] | None = None,
    tell: Callable[[str], None] | None = None,
    inventory: Inventory | None = None,
) -> int:
    """Open everything, as a served machine does, and close it again."""
    vm = VirtualMachine(settings, inventory=inventory)
    vm.listen(tell)
    if on_start is not None:
        on_start()
    vm.let_go()
    return 0


@pytest.mark.parametrize("release", emulator_line.RELEASES)
def test_lines(release: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("QMPD_RELEASE", release)
    monkeypatch.delenv("QMPD_OPTIONS", raising=False)
    monkeypatch.setattr("qmpd.server.serve.serve", without_serving)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/qmpd-system-x86_64"])
    monkeypatch.setattr(log, "name", "qmpd")
    monkeypatch.setattr(log, "timestamp", False)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: KVM[release] if path == "/dev/kvm" else access(path, mode))
    differences = []
    rows = emulator_line.load(release)
    for row in rows:
        line = row["line"]
        if line in LEFT_OUT.get(release, ()):
            continue
        got = run(line, capsys)
        want = row["status"], row["stderr"], row.get("stdout")
        if got[:2] != want[:2] or (want[2] is not None and got[2] != want[2]):
            differences.append(f"{line}\n    got  {got}\n    want {want}")
    left = len(LEFT_OUT.get(release, ()))
    print(f"{release}: {len(rows) - left} command lines as in QEMU, {left} left out")
    assert not differences, "\n".join(differences)


def run(line: str, capsys: pytest.CaptureFixture[Any], *more: str) -> tuple[int, list[str], str]:
    """The exit status, standard error and standard output of one command line, with `more` options in front."""
    capsys.readouterr()
    text, options, front = parsed = emulator_line.parse(line)
    with contextlib.ExitStack() as stack:
        path = ""
        if text is not None and parsed.has_file:
            path = stack.enter_context(emulator_line.config_file(text))
            options = parsed.with_file(path)
        elif text is not None:
            stack.enter_context(descriptor(text))
        status = emulator.main([*front, *more, *options])
    out, err = (each.replace(OURS, THEIRS) for each in capsys.readouterr())
    return status, (err.replace(path, "CONFIG") if path else err).splitlines(), out


@contextlib.contextmanager
def descriptor(text: bytes) -> Iterator[None]:
    """An open file with this text, under the number that lines have for it."""
    number = os.memfd_create("line")
    os.write(number, text)
    os.lseek(number, 0, os.SEEK_SET)
    # It was open for reading alone where the lines were recorded.
    reading = os.open(f"/proc/self/fd/{number}", os.O_RDONLY)
    os.dup2(reading, emulator_line.DESCRIPTOR)
    os.close(reading)
    os.close(number)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.close(emulator_line.DESCRIPTOR)


def test_the_time_stands_in_front(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["qmpd-system-x86_64"])
    monkeypatch.setattr(log, "timestamp", False)
    assert emulator.main(["-msg", "timestamp=on", "-machine", "foo"]) == 1
    first = capsys.readouterr().err.splitlines()[0]
    time, _, rest = first.partition(" ")
    assert rest.startswith("qmpd-system-x86_64: unsupported machine type")
    assert len(time) == len("2022-11-22T09:47:55.065880Z")


@pytest.mark.parametrize("word", ["-version", "-help"])
def test_texts(word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("QMPD_RELEASE", "7.2")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/qmpd-system-x86_64"])
    assert emulator.main([word]) == 0
    text = capsys.readouterr().out
    assert text.startswith("QEMU emulator version 7.2.22 (Debian")
    assert ("usage: qmpd-system-x86_64 [options]" in text) == (word == "-help")
