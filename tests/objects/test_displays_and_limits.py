"""Keys, screens, passwords, I/O limits, sizes of nodes, and machine properties: as a real QEMU answers them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.objects.support import PC, InProcess, Request
from tests.objects.test_differential import play
from tests.real_qemu import programs

RELEASES = ("5.2", "7.2", "10.0", "11.1")
BACKEND = "/machine/peripheral/d0/virtio-backend"


def limited(**limits: Any) -> Request:
    none = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
    return "block_set_io_throttle", {**none, **limits}


def password(**more: str) -> Request:
    return "set_password", {"protocol": "vnc", "password": "secret", **more}


LIMITS: tuple[Request, ...] = (
    *(
        limited(id=BACKEND, **limits)
        for limits in (
            {"iops": 100}, {}, {"iops": 1, "iops_rd": 1}, {"iops": -1}, {"iops": 10**16}, {"iops_size": 5},
            {"iops": 5, "iops_size": 5}, {"iops": 5, "iops_max": 3}, {"iops_max": 3}, {"iops": 5, "iops_max_length": 2},
            {"iops": 5, "iops_max": 10, "iops_max_length": 0}, {"iops": 5, "iops_max": 10, "iops_max_length": 10**15},
            {"bps_rd": 5, "bps_rd_max": 100, "bps_wr": 7, "iops": 9, "iops_size": 3}, {"bps": 1, "bps_rd_max": 3},
            {"iops": 5, "iops_max": 10, "iops_max_length": 2, "group": "g"},
        )
    ),
    limited(id="x"), limited(device="x"), limited(), limited(id="c0", iops=1), limited(id="c0", device="x"),
    ("query-block", {}),
    *(
        ("block_resize", resized)
        for resized in (
            {"node-name": "n0", "size": 1}, {"node-name": "zz", "size": 1}, {"device": "zz", "size": 1}, {"size": 1},
            {"node-name": "n0", "size": -1},
        )
    ),
)  # fmt: skip
PASSWORDS: tuple[Request, ...] = (
    password(), password(connected="keep"), password(connected="fail"), password(display="second"),
    password(display="none"), password(protocol="spice"),
    *(
        ("expire_password", {"protocol": "vnc", "time": time})
        for time in ("now", "never", "+5", "5", "no-time")
    ),
    ("expire_password", {"protocol": "spice", "time": "now"}),
    ("expire_password", {"protocol": "vnc", "time": "now", "display": "none"}),
    ("change-vnc-password", {"password": "x"}),
)  # fmt: skip
SCREENS: tuple[Request, ...] = (
    ("send-key", {"keys": [{"type": "number", "data": 99999}, {"type": "qcode", "data": "a"}]}),
    *(
        ("screendump", {"filename": "/dev/null", **which})
        for which in ({}, {"device": "x"}, {"head": 1}, {"device": "v"}, {"device": "v", "head": 1}, {"device": "r"})
    ),
)
MACHINE: tuple[Request, ...] = tuple(
    ("qom-get", {"path": "/machine", "property": name}) for name in ("usb", "vmport", "mem-merge", "dump-guest-core")
)
LINES: dict[str, tuple[tuple[str, ...], tuple[Request, ...]]] = {
    "limits": (
        ("-blockdev", "null-co,node-name=n0", "-device", "virtio-blk-pci,drive=n0,id=d0", "-device", "ide-cd,id=c0"),
        LIMITS,
    ),
    "no display": ((), PASSWORDS + SCREENS),
    "displays": (("-vnc", "none,id=first,password=on", "-vnc", "none,id=second"), PASSWORDS),
    "screens": (("-device", "VGA,id=v", "-device", "virtio-rng-pci,id=r"), SCREENS),
    "machine": (("-machine", "usb=off,vmport=off,mem-merge=off,dump-guest-core=off"), MACHINE),
}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("kind", LINES)
def test_qmpd_says_what_qemu_says(release: str, kind: str) -> None:
    if release not in programs():
        pytest.skip(f"qemu-system-x86_64 {release} is not installed")
    options, requests = LINES[kind]
    for request, ours, theirs in play(release, [*PC, *options], requests):
        assert (request, ours) == (request, theirs)


@pytest.mark.parametrize("release", ["7.2", "11.1"])
def test_what_a_stick_is_called_that_cannot_have_its_drive(release: str) -> None:
    """As by real QEMU: up to 7.2 the disk that is a part of it does not have the drive yet when that is looked at."""
    machine = InProcess(release, [*PC, "-usb", "-device", "virtio-scsi-pci,id=vs", "-blockdev", "null-co,node-name=n0"])
    disk, stick = {"driver": "scsi-hd", "id": "d", "drive": "n0"}, {"driver": "usb-storage", "id": "s", "drive": "n0"}
    part, is_used = "/machine/peripheral/s/s.0/legacy[0]", "(uses node 'n0' as 'root' child)"
    early = "s" if release == "7.2" else part
    for first, second, used, unshared in ((disk, stick, "d", early), (stick, disk, part, "d")):
        assert machine.said("device_add", first) == [b'{"return": {}}']
        said = json.loads(machine.said("device_add", second)[0])["error"]["desc"]
        both = f"permissions 'write' are both required by block device '{used}' {is_used}"
        assert said == f"Permission conflict on node 'n0': {both} and unshared by block device '{unshared}' {is_used}."
        machine.said("device_del", id=first["id"])
        machine.clock.advance(1_000_000_000)
        machine.said("query-status")


def test_a_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(1 << 20))
    machine = InProcess("7.2", [*PC, "-blockdev", f"raw,node-name=n0,file.driver=file,file.filename={path}"])
    assert machine.said("block_resize", node_name="n0", size=2 << 20) == [b'{"return": {}}']
    assert b'"virtual-size": 2097152' in machine.said("query-named-block-nodes")[0]
    assert path.stat().st_size == 2 << 20
