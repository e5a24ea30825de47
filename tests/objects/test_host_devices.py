"""Devices that are the host's: what the host does not have is told as QEMU tells it, before what is not modelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.objects.support import PC, InProcess, Real
from tests.real_qemu import programs

SOCKETS: dict[str, Any] = {"driver": "vhost-vsock-pci", "guest-cid": 3}
# What a release says of the kernel's part of a device of sockets.
UNOPENED = {
    "7.2": "vhost-vsock: failed to open vhost device: No such file or directory",
    "11.1": "Could not open '/dev/vhost-vsock': No such file or directory",
}


def refused(machine: InProcess | Real, arguments: dict[str, Any]) -> str:
    (reply,) = machine.say(json.dumps({"execute": "device_add", "arguments": arguments}).encode())
    text: str = json.loads(reply)["error"]["desc"]
    return text


@pytest.mark.parametrize("release", list(UNOPENED))
def test_sockets_of_the_kernel(release: str) -> None:
    machine = InProcess(release, PC)
    assert refused(machine, {**SOCKETS, "guest-cid": 2}) == "guest-cid property must be greater than 2"
    if Path("/dev/vhost-vsock").exists():
        assert "qmpd does not model" in refused(machine, SOCKETS)
    else:
        assert refused(machine, SOCKETS) == UNOPENED[release]


def test_a_device_of_the_host_without_a_group(tmp_path: Path) -> None:
    machine, folder = InProcess("7.2", PC), tmp_path / "0000:00:1f.7"
    given = {"driver": "vfio-pci", "sysfsdev": str(folder)}
    assert refused(machine, given) == f"vfio {folder}: no such host device: No such file or directory"
    folder.mkdir()
    expected = "vfio 0000:00:1f.7: no iommu_group found: No such file or directory"
    assert refused(machine, given) == expected
    if "7.2" in programs():
        with Real("7.2", PC) as real:
            assert refused(real, given) == expected
    (folder / "iommu_group").mkdir()
    assert refused(machine, given) == "qmpd does not model adding a device of type vfio-pci"
