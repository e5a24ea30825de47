"""What a machine has from the start, as a real QEMU shows it."""

from __future__ import annotations

import pytest

from tests.objects.support import PC, Request
from tests.objects.test_differential import play
from tests.real_qemu import programs

RELEASES = ("5.2", "7.2", "10.0", "11.1")
Q35 = (
    "-machine", "q35,accel=tcg", "-m", "32,slots=2,maxmem=1G", "-display", "none", "-nodefaults", "-S",
    "-device", "pcie-root-port,id=root,chassis=1", "-device", "virtio-rng-pci,id=behind,bus=root",
    "-device", "virtio-rng-pci,id=beside", "-device", "e1000,id=nic", "-device", "secondary-vga,id=second",
)  # fmt: skip
REGION = "/machine/device-memory[0]"
REQUESTS: tuple[Request, ...] = (
    ("query-pci", {}),
    *(("qom-list", {"path": f"/machine/peripheral/{name}"}) for name in ("root", "behind", "beside", "nic", "second")),
    ("qom-list", {"path": "/backend"}),
    ("qom-list", {"path": "/machine"}),
    ("qom-get", {"path": "/machine", "property": "memory"}),
    ("qom-list", {"path": REGION}),
    *(("qom-get", {"path": REGION, "property": name}) for name in ("type", "container", "addr", "size", "priority")),
    ("device_add", {"driver": "e1000", "id": "late", "bus": "root"}),
    ("device_del", {"id": "behind"}),
    ("query-pci", {}),
)


def line(text: str) -> Request:
    return "human-monitor-command", {"command-line": text}


MEDIA: tuple[Request, ...] = (
    ("blockdev-change-medium", {"id": "cd", "filename": "null-co://"}),
    ("blockdev-change-medium", {"id": "cd", "filename": "null-co://", "format": "raw"}),
    ("blockdev-change-medium", {"id": "cd", "filename": "/missing/file"}),
    ("blockdev-change-medium", {"id": "disk", "filename": "null-co://", "format": "raw"}),
    line("change"), line("change c0"), line("change zz /x"), line("change c0 null-co:// raw read-only"),
    line("change c0 null-co:// raw zz"), line("change c0 null-co:// raw read-write x"),
    line("info block"),
)  # fmt: skip
DRIVES = (
    "-device", "ide-cd,id=cd", "-blockdev", "null-co,node-name=n0", "-device", "virtio-blk-pci,drive=n0,id=disk",
    "-drive", "if=none,id=c0", "-device", "ide-cd,drive=c0",
)  # fmt: skip
NULL = "if=none,id=b0,file=null-co://,format=raw"
PARTS: tuple[Request, ...] = (
    ("netdev_add", {"type": "hubport", "id": "a", "hubid": 3}),
    ("netdev_add", {"type": "hubport", "id": "b", "hubid": 1}),
    ("netdev_add", {"type": "hubport", "id": "c", "hubid": 3}),
    ("netdev_add", {"type": "user", "id": "u", "restrict": True, "net": "10.1.0.0/16"}),
    ("netdev_add", {"type": "user", "id": "v"}),
    ("device_add", {"driver": "e1000", "id": "n0", "netdev": "c"}),
    ("device_add", {"driver": "virtio-net-pci", "netdev": "u"}),
    ("device_add", {"driver": "rtl8139"}),
    line("info network"),
    ("netdev_del", {"id": "u"}),
    ("netdev_del", {"id": "b"}),
    line("info network"),
    line(f"drive_add 0 {NULL}"),
    ("device_add", {"driver": "virtio-blk-pci", "id": "d0", "drive": "b0"}),
    line("drive_del b0"),
    line(f"drive_add 0 {NULL}"),
    ("query-block", {}),
    line("info block"),
)


@pytest.mark.parametrize("release", RELEASES)
def test_parts_are_shown_and_remembered(release: str) -> None:
    if release not in programs():
        pytest.skip(f"qemu-system-x86_64 {release} is not installed")
    for request, ours, theirs in play(release, list(PC), PARTS):
        assert (request, ours) == (request, theirs)


@pytest.mark.parametrize("release", RELEASES)
def test_qmpd_says_what_qemu_says(release: str) -> None:
    if release not in programs():
        pytest.skip(f"qemu-system-x86_64 {release} is not installed")
    for request, ours, theirs in play(release, list(Q35), REQUESTS):
        assert (request, ours) == (request, theirs)


# Release 5.2 opens a medium for a drive that had none before for writing.
@pytest.mark.parametrize("release", RELEASES[1:])
def test_media_are_changed(release: str) -> None:
    if release not in programs():
        pytest.skip(f"qemu-system-x86_64 {release} is not installed")
    for request, ours, theirs in play(release, [*PC, *DRIVES], MEDIA):
        assert (request, ours) == (request, theirs)


@pytest.mark.parametrize("machine", ["pc", "none", "isapc", "microvm"])
def test_each_machine_has_its_own_pci_devices(machine: str) -> None:
    if "7.2" not in programs():
        pytest.skip("qemu-system-x86_64 7.2 is not installed")
    options = ["-machine", machine, "-accel", "tcg", "-m", "32", "-display", "none", "-nodefaults", "-S"]
    for request, ours, theirs in play("7.2", options, [("query-pci", {})]):
        assert (request, ours) == (request, theirs)
