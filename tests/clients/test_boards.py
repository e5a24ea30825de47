"""What a machine's board has and lacks, as query commands tell of it (measured with each release)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.golden import RELEASES
from tests.objects.support import InProcess

if TYPE_CHECKING:
    from typing import Any

QUERIES = ("query-current-machine", "query-hotpluggable-cpus", "query-mice", "query-acpi-ospm-status")


def asked(release: str, *options: str) -> dict[str, Any]:
    machine = InProcess(release, ("-display", "none", "-nodefaults", "-S", *options))
    return {name: json.loads(machine.said(name)[0]) for name in QUERIES}


@pytest.mark.parametrize(
    ("options", "wakes", "plugs", "mice", "acpi"),
    [
        (("-machine", "pc"), True, True, 1, True),
        (("-machine", "pc,acpi=off"), False, True, 1, False),
        (("-machine", "q35,acpi=off"), True, True, 1, True),
        (("-machine", "isapc"), False, True, 1, False),
        (("-machine", "microvm"), False, False, 0, True),
        (("-machine", "none"), False, False, 0, False),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("release", RELEASES)
def test_board(release: str, options: tuple[str, ...], wakes: bool, plugs: bool, mice: int, acpi: bool) -> None:
    said = asked(release, *options)
    assert said["query-current-machine"] == {"return": {"wakeup-suspend-support": wakes}}
    assert ("return" in said["query-hotpluggable-cpus"]) is plugs
    assert len(said["query-mice"]["return"]) == mice
    assert ("return" in said["query-acpi-ospm-status"]) is acpi


@pytest.mark.parametrize(("board", "listened"), [("pc", True), ("none", False)])
@pytest.mark.parametrize("release", RELEASES)
def test_serial_port_listens(release: str, board: str, listened: bool) -> None:
    """A character device is open at the front where the board has the port that was asked for."""
    options = ("-display", "none", "-nodefaults", "-S", "-machine", board, "-serial", "null")
    listed = json.loads(InProcess(release, options).said("query-chardev")[0])["return"]
    assert {"filename": "null", "label": "serial0", "frontend-open": listened} in listed
