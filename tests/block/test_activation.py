"""Nodes that are given to another machine, and taken back: `blockdev-set-active`, as measured on 10.0 and 11.1."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.support import Monitor

if TYPE_CHECKING:
    from pathlib import Path

    from qmpd.testing import VMFactory


def _node(name: str, folder: Path) -> list[str]:
    file = {"driver": "file", "node-name": f"{name}f", "filename": str(folder / f"{name}.raw")}
    return ["-blockdev", json.dumps({"driver": "raw", "node-name": name, "file": file})]


@pytest.mark.parametrize("release", ["10.0", "11.1"])
def test_nodes_are_given_and_taken_back(qmpd: VMFactory, tmp_path: Path, release: str) -> None:
    for name in "de":
        (tmp_path / f"{name}.raw").write_bytes(bytes(1 << 20))
    disks = [*_node("d", tmp_path), "-device", "virtio-blk-pci,drive=d,id=d0", *_node("e", tmp_path)]
    command_line = ["-machine", "pc", "-nodefaults", "-S", *disks]
    vm = qmpd(release=release, command_line=command_line)
    other = qmpd(release=release, command_line=["-machine", "none", "-nodefaults"])
    with closing(Monitor(vm.qmp_path)) as monitor, closing(Monitor(other.qmp_path)) as second:

        def active() -> str:
            nodes: list[dict[str, Any]] = monitor("query-named-block-nodes")["return"]
            return " ".join(sorted(each["node-name"] for each in nodes if each["active"]))

        def give(name: str) -> Any:
            reply = monitor("blockdev-set-active", active=False, node_name=name)
            return reply.get("return", reply.get("error", {}).get("desc"))

        assert active() == "d df e ef"
        assert give("none") == "Failed to find node with node-name='none'"
        assert give("d0") == "Failed to find node with node-name='d0'"
        assert give("df") == "Node has active parent node"
        assert give("d") == {}
        assert active() == "e ef"
        assert give("e") == give("e") == {}
        assert active() == ""
        # Somebody else may have them meanwhile, and keeps this machine from them.
        file = {"driver": "file", "filename": str(tmp_path / "d.raw")}
        assert second("blockdev-add", driver="raw", node_name="x", file=file) == {"return": {}}
        place = {"type": "unix", "data": {"path": str(tmp_path / "n")}}
        assert second("nbd-server-start", addr=place) == {"return": {}}
        assert second("block-export-add", type="nbd", id="v", node_name="x", writable=True) == {"return": {}}
        assert monitor("blockdev-set-active", active=True, node_name="ef") == {"return": {}}
        assert active() == "ef"
        assert "lock" in monitor("blockdev-set-active", active=True, node_name="d")["error"]["desc"]
        assert active() == "ef"
        second("nbd-server-stop")
        assert monitor("blockdev-set-active", active=True) == {"return": {}}
        assert active() == "d df e ef"
        assert monitor("blockdev-set-active", active=False) == {"return": {}}
        assert active() == ""
        assert monitor("cont") == {"return": {}}
        assert active() == "d df e ef"
