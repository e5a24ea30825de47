"""Devices whose state cannot go with a machine, through each door that has to do with that."""

from __future__ import annotations

from typing import Any

import pytest

from qmpd.testing import StartError, start
from tests.testing.client import Client

_LINE = ["-machine", "pc", "-nodefaults", "-display", "none", "-S", "-usb"]
_NVME = ["-blockdev", "null-co,node-name=n0,read-zeroes=on", "-device", "nvme,drive=n0,serial=1"]
_TOLD = "Device nvme is not migratable, but --only-migratable was specified"


def _description(reply: Any) -> str:
    return str(reply["error"]["desc"])


@pytest.mark.parametrize("release", ["5.2", "7.2", "10.0"])
def test_it_hinders_a_migration_and_a_snapshot(release: str) -> None:
    line = [*_LINE, *_NVME, "-chardev", "null,id=c", "-device", "usb-serial,chardev=c"]
    with start(guest=None, release=release, command_line=line) as vm, Client(vm.qmp_path) as client:
        refused = "State blocked by non-migratable device '0000:00:02.0/nvme'"
        assert _description(client.execute("migrate", uri="exec:cat >/dev/null")) == refused
        assert client.execute("human-monitor-command", **{"command-line": "savevm x"}) == f"Error: {refused}\r\n"
        reasons = [f"non-migratable device: 0000:00:0{each}" for each in ("1.2/1/usb-serial", "2.0/nvme")]
        told = client.execute("query-migrate")
        assert told == ({} if release == "5.2" else {"blocked-reasons": reasons})
        shown = client.execute("human-monitor-command", **{"command-line": "info migrate"})
        assert ("Outgoing migration blocked:\r\n" in shown) is (release != "5.2")


def test_it_cannot_be_where_everything_is_to_be_movable() -> None:
    with pytest.raises(StartError, match=_TOLD):
        start(guest=None, release="7.2", command_line=[*_LINE, "-only-migratable", *_NVME])
    line = [*_LINE, "-only-migratable"]
    with start(guest=None, release="7.2", command_line=line) as vm, Client(vm.qmp_path) as client:
        client.execute("blockdev-add", **{"driver": "null-co", "node-name": "n0"})
        assert _description(client.execute("device_add", driver="nvme", drive="n0", serial="1")) == _TOLD
        words = {"command-line": "device_add nvme,drive=n0,serial=1"}
        assert client.execute("human-monitor-command", **words) == f"Error: {_TOLD}\r\n"
    # A later release moves it.
    with start(guest=None, release="11.1", command_line=[*_LINE, "-only-migratable", *_NVME]) as vm:
        assert vm.run_state == "prelaunch"
