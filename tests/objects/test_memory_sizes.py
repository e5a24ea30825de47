"""Memory of sizes that are no whole MiB: what it is aligned to where it is plugged in, and what is refused of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.objects.support import InProcess, Request
from tests.objects.test_differential import play
from tests.real_qemu import programs

if TYPE_CHECKING:
    from pathlib import Path

RELEASES = ("5.2", "7.2", "10.0", "11.1")
LINE = ("-machine", "pc", "-m", "128M,slots=30,maxmem=1G", "-nodefaults", "-display", "none", "-S")
MIB = 1 << 20


def backends(folder: str) -> list[tuple[str, int, dict[str, Any]]]:
    file = {"mem-path": folder}
    return [
        ("memory-backend-file", MIB, file), ("memory-backend-memfd", MIB, {}), ("memory-backend-ram", 2 * MIB, {}),
        ("memory-backend-file", 20480, file), ("memory-backend-memfd", MIB, {}),
        ("memory-backend-file", MIB, {**file, "align": 2 * MIB}),
        ("memory-backend-file", 4 * MIB, {**file, "align": 2 * MIB}),
        ("memory-backend-file", MIB, {**file, "align": 3 * MIB}), ("memory-backend-file", MIB, {**file, "align": 100}),
        ("memory-backend-file", 4 * MIB, {**file, "align": MIB // 2}), ("memory-backend-file", MIB + 1, file),
        ("memory-backend-ram", MIB, {"share": True}), ("memory-backend-ram", 4 * MIB + 4096, {}),
        ("memory-backend-memfd", 4097, {}), ("memory-backend-memfd", MIB, {"hugetlb": True}),
        ("memory-backend-memfd", 2 * MIB, {"hugetlb": True, "hugetlbsize": 1 << 30}),
        ("memory-backend-file", MIB, {"mem-path": f"{folder}/nope/x"}),
    ]  # fmt: skip


def requests(folder: str) -> list[Request]:
    asked: list[Request] = []
    for number, (kind, size, more) in enumerate(backends(folder)):
        asked.append(("object-add", {"qom-type": kind, "id": f"m{number}", "size": size, **more}))
        asked.append(("device_add", {"driver": "pc-dimm", "id": f"d{number}", "memdev": f"m{number}"}))
    return [*asked, ("query-memory-devices", {})]


@pytest.mark.parametrize("release", RELEASES)
def test_beside_the_real_program(release: str) -> None:
    if release not in programs():
        pytest.skip(f"there is no QEMU {release}")
    for request, ours, theirs in play(release, LINE, requests("/tmp")):
        assert ours == theirs, request


@pytest.mark.parametrize("release", RELEASES)
def test_memory_of_a_file_is_aligned_to_its_pages(release: str, tmp_path: Path) -> None:
    machine = InProcess(release, LINE)
    for command, arguments in requests(str(tmp_path)):
        (reply,) = machine.said(command, arguments)
    placed = {each["data"]["id"]: each["data"]["addr"] - (4 << 30) for each in orjson.loads(reply)["return"]}
    assert placed == {
        "d0": 0, "d1": MIB, "d2": 2 * MIB, "d3": 4 * MIB, "d4": 4 * MIB + 20480, "d6": 6 * MIB, "d9": 10 * MIB,
    }  # fmt: skip
