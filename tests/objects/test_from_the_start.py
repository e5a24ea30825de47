"""What a machine has from the start, as a real QEMU shows it."""

from __future__ import annotations

import pytest

from tests.objects.support import Request
from tests.objects.test_differential import play
from tests.real_qemu import programs

RELEASES = ("5.2", "7.2", "10.0", "11.1")
Q35 = (
    "-machine", "q35,accel=tcg", "-m", "32,slots=2,maxmem=1G", "-display", "none", "-nodefaults", "-S",
    "-device", "pcie-root-port,id=root,chassis=1", "-device", "virtio-rng-pci,id=behind,bus=root",
    "-device", "virtio-rng-pci,id=beside", "-device", "e1000,id=nic",
)  # fmt: skip
REGION = "/machine/device-memory[0]"
REQUESTS: tuple[Request, ...] = (
    ("query-pci", {}),
    ("qom-list", {"path": "/machine"}),
    ("qom-get", {"path": "/machine", "property": "memory"}),
    ("qom-list", {"path": REGION}),
    *(("qom-get", {"path": REGION, "property": name}) for name in ("type", "container", "addr", "size", "priority")),
    ("device_add", {"driver": "e1000", "id": "late", "bus": "root"}),
    ("device_del", {"id": "behind"}),
    ("query-pci", {}),
)


@pytest.mark.parametrize("release", RELEASES)
def test_qmpd_says_what_qemu_says(release: str) -> None:
    if release not in programs():
        pytest.skip(f"qemu-system-x86_64 {release} is not installed")
    for request, ours, theirs in play(release, list(Q35), REQUESTS):
        assert (request, ours) == (request, theirs)


@pytest.mark.parametrize("machine", ["pc", "none", "isapc", "microvm"])
def test_each_machine_has_its_own_pci_devices(machine: str) -> None:
    if "7.2" not in programs():
        pytest.skip("qemu-system-x86_64 7.2 is not installed")
    options = ["-machine", machine, "-accel", "tcg", "-m", "32", "-display", "none", "-nodefaults", "-S"]
    for request, ours, theirs in play("7.2", options, [("query-pci", {})]):
        assert (request, ours) == (request, theirs)
