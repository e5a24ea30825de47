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


@pytest.mark.parametrize(("board", "resets"), [("pc", 2), ("q35", 2), ("isapc", 1), ("microvm", 1)])
@pytest.mark.parametrize("release", RELEASES)
def test_firmware_resets_once_more(release: str, board: str, resets: int) -> None:
    machine = InProcess(release, ("-display", "none", "-nodefaults", "-S", "-machine", board))
    machine.said("cont")
    machine.clock.advance(1_000_000_000)
    said = machine.said("query-status") + machine.said("system_reset")
    machine.clock.advance(1_000_000_000)
    # What has become due is done with the next command, and told with the one after it.
    said += machine.said("query-status") + machine.said("query-status")
    assert sum(b'"RESET"' in line for line in said) == resets
