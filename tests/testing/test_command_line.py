"""QEMU's whole command line for a VM in the test's own process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qmpd.testing import StartError, start
from tests.testing.client import Client

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("release", ["5.2", "7.2", "10.0", "11.1"])
def test_what_it_asks_for_is_there(release: str, tmp_path: Path) -> None:
    (tmp_path / "disk.raw").write_bytes(bytes(1 << 20))
    line = (
        "-machine pc -nodefaults -display none -name whole -m 256 -smp 2 -chardev ringbuf,id=c0 -netdev user,id=n0 "
        f"-device virtio-net-pci,netdev=n0,id=nic -blockdev file,node-name=f0,filename={tmp_path}/disk.raw "
        "-device virtio-blk-pci,drive=f0,id=disk -object iothread,id=io1"
    )
    with start(command_line=line.split(), release=release, clock="virtual", guest="boot-time=1s") as vm:
        vm.clock.run_until_quiet()
        with Client(vm.qmp_path) as client:
            assert client.execute("query-name") == {"name": "whole"}
            assert {each["label"] for each in client.execute("query-chardev")} >= {"c0"}
            assert [each["node-name"] for each in client.execute("query-named-block-nodes")] == ["f0"]
            names = {each["name"] for each in client.execute("qom-list", path="/machine/peripheral")}
            assert {"nic", "disk"} <= names
            client.execute("device_del", id="nic")
        vm.clock.run_until_quiet()
        assert vm.wait_for_event("DEVICE_DELETED", {"device": "nic"}).time > 0


def test_what_is_wrong_is_told_in_qemus_words() -> None:
    for line, told in (
        ("-machine foo", "unsupported machine type"),
        ("-device nosuch", "'nosuch' is not a valid device model name"),
        ("-netdev user", "Parameter 'id' is missing"),
        ("-machine help", "asks for a list"),
        ("-nosuch", "invalid option"),
        ("-daemonize", "takes a process of its own"),
    ):
        with pytest.raises(StartError, match=told):
            start(command_line=line.split(), release="10.0")
    with pytest.raises(StartError, match="the whole command line"):
        start(command_line=[], options=["-S"])
