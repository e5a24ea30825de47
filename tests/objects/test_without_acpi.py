"""Boards that are told to have no ACPI: what is not there then, and what cannot be plugged in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.objects.support import InProcess, Real, Request
from tests.objects.test_differential import play
from tests.real_qemu import programs

RELEASES = ("5.2", "7.2", "10.0", "11.1")
LINE = (
    "-machine", "pc,acpi=off", "-nodefaults", "-display", "none", "-S", "-smp", "2", "-m", "128M,slots=2,maxmem=1G",
    "-device", "e1000,id=x",
)  # fmt: skip
OF_Q35 = ("-machine", "q35,acpi=off", *LINE[2:])
PATHS = ("/machine/unattached", "/machine", "/machine/i440fx/pci.0")
HOT: list[Request] = [
    ("device_add", {"driver": "e1000", "id": "e"}), ("device_del", {"id": "x"}),
    ("object-add", {"qom-type": "memory-backend-ram", "id": "m", "size": 128 << 20}),
    ("device_add", {"driver": "pc-dimm", "id": "d", "memdev": "m"}), ("query-pci", {}),
    ("human-monitor-command", {"command-line": "info qtree"}), ("query-memory-devices", {}),
    ("qom-get", {"path": "/machine/i440fx/pci.0", "property": "hotplug-handler"}),
]  # fmt: skip


def listed(machine: InProcess | Real, path: str) -> list[dict[str, Any]]:
    (reply,) = machine.say(json.dumps({"execute": "qom-list", "arguments": {"path": path}}).encode())
    found: list[dict[str, Any]] = json.loads(reply)["return"]
    return sorted(found, key=lambda each: str(each["name"]))


@pytest.mark.parametrize("release", RELEASES)
def test_beside_the_real_program(release: str) -> None:
    if release not in programs():
        pytest.skip(f"there is no QEMU {release}")
    for line in (LINE, OF_Q35):
        for request, ours, theirs in play(release, line, HOT):
            assert ours == theirs, (line[1], request)
    with Real(release, LINE) as real:
        machine = InProcess(release, LINE)
        for path in PATHS:
            assert listed(machine, path) == listed(real, path)


@pytest.mark.parametrize("release", RELEASES)
def test_nothing_of_it_is_there(release: str) -> None:
    machine = InProcess(release, LINE)
    (shown,) = machine.said("query-pci")
    assert (1, 3) not in [(each["slot"], each["function"]) for each in json.loads(shown)["return"][0]["devices"]]
    assert "acpi-device" not in [each["name"] for each in listed(machine, "/machine")]
    (refused,) = machine.said("device_add", {"driver": "e1000", "id": "e"})
    assert json.loads(refused)["error"]["desc"] == "Bus 'pci.0' does not support hotplugging"
    machine.said("object-add", {"qom-type": "memory-backend-ram", "id": "m", "size": 128 << 20})
    (refused,) = machine.said("device_add", {"driver": "pc-dimm", "id": "d", "memdev": "m"})
    text = "memory hotplug is not enabled: missing acpi device or acpi disabled"
    assert json.loads(refused)["error"]["desc"] == text
