"""Which device may use a node that another one has at work in an iothread (asked of releases 5.2 to 11.1)."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from qmpd.testing import StartError
from tests.block.support import Monitor

if TYPE_CHECKING:
    from qmpd.testing import VMFactory

LINE = (
    "-blockdev null-co,node-name=n0 -object iothread,id=t0 -object iothread,id=t1 -device virtio-scsi,iothread=t0,id=s0"
    " -device scsi-hd,bus=s0.0,drive=n0,share-rw=on"
)
ACTIVE, NEVER = "Cannot change iothread of active block backend", "HBA does not support iothreads"
BESIDE = (
    ("7.2", "ide-hd", ACTIVE),
    ("7.2", "floppy", ACTIVE),
    ("10.0", "virtio-blk-pci,iothread=t0", ACTIVE),
    ("7.2", "lsi53c895a,id=l -device scsi-hd,bus=l.0", NEVER),
    ("7.2", "virtio-scsi,id=l -device scsi-hd,bus=l.0", ACTIVE),
    ("7.2", "virtio-scsi,id=l,iothread=t1 -device scsi-hd,bus=l.0", ACTIVE),
    ("10.0", "virtio-scsi,id=l,iothread=t1 -device scsi-hd,bus=l.0", ""),
    ("7.2", "virtio-scsi,id=l,iothread=t0 -device scsi-hd,bus=l.0", ""),
)


@pytest.mark.parametrize(("release", "device", "text"), BESIDE)
def test_a_second_device(qmpd: VMFactory, release: str, device: str, text: str) -> None:
    line = [*LINE.split(), *f"-device {device},drive=n0,share-rw=on".split()]
    if not text:
        qmpd(release=release, command_line=line)
        return
    with pytest.raises(StartError, match=text):
        qmpd(release=release, command_line=line)


def test_a_node_moves_with_its_only_device(qmpd: VMFactory) -> None:
    line = ["-nodefaults", *LINE.split()[:-2], "-device", "virtio-scsi,iothread=t1,id=s1"]
    vm = qmpd(release="7.2", command_line=line)
    with closing(Monitor(vm.qmp_path)) as monitor:

        def add(name: str, bus: str) -> dict[str, object]:
            return monitor("device_add", driver="scsi-hd", id=name, bus=bus, drive="n0", share_rw=True)

        def take_away(name: str) -> None:
            monitor("device_del", id=name)
            deadline = time.monotonic() + 10
            while not any(each["data"].get("device") == name for each in monitor.events):
                assert time.monotonic() < deadline, f"{name} is still there"
                monitor("query-status")

        assert add("a", "s0.0") == {"return": {}}
        assert add("b", "s1.0")["error"]["desc"] == ACTIVE  # type: ignore[index]
        take_away("a")
        assert add("b", "s1.0") == {"return": {}}
        take_away("b")
        assert monitor("device_add", driver="virtio-blk-pci", drive="n0") == {"return": {}}
