"""What the machine's own properties say of its command line, as the real programs': `-boot`, `-rtc`, `-kernel`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulator.support import run
from tests.objects.support import InProcess, Real
from tests.real_qemu import programs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RELEASES = ("5.2", "7.2", "10.0", "11.1")
QUIET = ("-nodefaults", "-display", "none", "-S")
BOOTS = (
    "pc", "pc -boot c", "pc -boot order=dc,once=n,menu=on,strict=off,reboot-timeout=500,splash-time=10",
    "pc,boot.order=d,boot.menu=off", "q35 -boot menu=on", "microvm -boot order=c", "none", "pc -boot order=",
    "pc -boot strict=on -boot order=n",
)  # fmt: skip
TIMES = (
    "2020-01-02T03:04:05", "2020-01-02", "2020-01-02T03:04", "2020-01-02T25:00:00", "2020-13-45", "2031-1-2T1:2:3junk",
)  # fmt: skip


def got(machine: InProcess | Real, name: str) -> Any:
    arguments = {"path": "/machine", "property": name}
    (reply,) = machine.say(json.dumps({"execute": "qom-get", "arguments": arguments}).encode())
    return reply.decode() if name == "boot" else json.loads(reply)


def moment(shown: dict[str, int]) -> float:
    names = ("tm_year", "tm_mon", "tm_mday", "tm_hour", "tm_min", "tm_sec")
    year, month, day, hour, minute, second = (shown[name] for name in names)
    return datetime(year + 1900, month + 1, day, hour, minute, second, tzinfo=UTC).timestamp()


def pair(release: str, line: Sequence[str], name: str) -> tuple[Any, Any]:
    with Real(release, line) as real:
        return got(InProcess(release, line), name), got(real, name)


@pytest.mark.parametrize("release", RELEASES)
def test_beside_the_real_program(release: str) -> None:
    if release not in programs():
        pytest.skip(f"there is no QEMU {release}")
    for words in BOOTS if release != "5.2" else ():
        ours, theirs = pair(release, ["-machine", *words.split(), *QUIET], "boot")
        assert ours == theirs, words
    for base in TIMES:
        ours, theirs = pair(release, ["-machine", "pc", *QUIET, "-rtc", f"base={base}"], "rtc-time")
        assert abs(moment(ours["return"]) - moment(theirs["return"])) <= 2, base


def test_what_boot_says() -> None:
    machine = InProcess("7.2", ["-machine", "pc", *QUIET, "-boot", "order=dc,once=n,menu=on,splash-time=5"])
    expected = {"order": "dc", "once": "n", "menu": True, "splash-time": 5}
    assert json.loads(got(machine, "boot"))["return"] == expected
    machine.said("human-monitor-command", {"command-line": "boot_set c"})
    assert json.loads(got(machine, "boot"))["return"] == expected


def test_the_clock_goes_on_from_where_it_begins() -> None:
    machine = InProcess("7.2", ["-machine", "pc", *QUIET, "-rtc", "base=2001-02-03T04:05:06"])
    shown = got(machine, "rtc-time")["return"]
    assert (shown["tm_year"], shown["tm_mon"], shown["tm_mday"], shown["tm_hour"], shown["tm_min"]) == (101, 1, 3, 4, 5)


def test_a_year_that_cannot_be_is_told() -> None:
    ended = run("-machine", "pc", "-nodefaults", "-rtc", "base=99999999999-01-01")
    assert ended.returncode == 1
    assert "a clock that begins before the year 1 or after 9999" in ended.stderr


def test_what_is_started_is_a_property(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(bytes(0x1F1) + b"\1" + bytes(4096))
    line = ["-machine", "pc", *QUIET, "-kernel", str(kernel), "-append", "quiet splash"]
    machine = InProcess("7.2", line)
    assert got(machine, "append") == {"return": "quiet splash"}
    assert got(machine, "kernel") == {"return": str(kernel)}
