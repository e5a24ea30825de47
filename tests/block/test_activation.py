"""Nodes that are given to another machine, and taken back: `blockdev-set-active`, as measured on 10.0 and 11.1."""

from __future__ import annotations

import json
import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.images import needs_qemu_img, qemu_img
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


@pytest.mark.parametrize("release", ["10.0", "11.1"])
def test_an_export_has_its_node_back_unless_it_lets_it_be(qmpd: VMFactory, tmp_path: Path, release: str) -> None:
    (tmp_path / "d.raw").write_bytes(bytes(1 << 20))
    vm = qmpd(release=release, command_line=["-machine", "none", "-nodefaults", *_node("d", tmp_path)])
    with closing(Monitor(vm.qmp_path)) as monitor:
        place = {"type": "unix", "data": {"path": str(tmp_path / "n")}}
        assert monitor("nbd-server-start", addr=place) == {"return": {}}

        def export(kind: str = "nbd", **arguments: Any) -> tuple[str, list[bool]]:
            assert monitor("blockdev-set-active", active=False, node_name="d") == {"return": {}}
            reply = monitor("block-export-add", type=kind, id="v", node_name="d", **arguments)
            active = [node["active"] for node in monitor("query-named-block-nodes")["return"]]
            monitor("block-export-del", id="v")
            return reply.get("error", {}).get("desc", ""), active

        assert export(iothread="none") == ('iothread "none" not found', [False, False])
        assert export(writable=True, allow_inactive=True) == ("", [False, False])
        front = {"addr": {"type": "unix", "path": str(tmp_path / "v")}, "logical_block_size": 7}
        refused = "Export type does not support inactive exports"
        assert export("vhost-user-blk", **front, allow_inactive=True) == (refused, [False, False])
        assert export(writable=True) == ("", [True, True])
        # Who may write to a node keeps it, but not what is on top.
        assert monitor("block-export-add", type="nbd", id="v", node_name="df", writable=True) == {"return": {}}

        def give(**arguments: str) -> tuple[str, list[str]]:
            reply = monitor("blockdev-set-active", active=False, **arguments)
            nodes = monitor("query-named-block-nodes")["return"]
            return reply["error"]["desc"], [node["node-name"] for node in nodes if node["active"]]

        assert give(node_name="d") == ("Failed to inactivate node: Operation not permitted", ["df"])
        assert monitor("blockdev-set-active", active=True) == {"return": {}}
        assert give() == ("Failed to inactivate all nodes: Operation not permitted", ["df"])


# Jobs that refuse disks that are another machine's, and what the filter of each has below it.
_STARTS: dict[str, dict[str, Any]] = {
    "block-commit": {"device": "d", "base_node": "e"}, "block-stream": {"device": "d"},
    "blockdev-mirror": {"device": "d", "target": "x", "sync": "full"},
    "blockdev-backup": {"device": "d", "target": "x", "sync": "full"},
}  # fmt: skip
_FILTERS = {"block-commit": "backing", "blockdev-mirror": "backing", "blockdev-backup": "file", "block-stream": "file"}
_OLDER = ("5.2", "7.2")


@needs_qemu_img
@pytest.mark.parametrize("release", ["5.2", "7.2", "10.0", "11.1"])
def test_no_job_works_on_what_is_another_machines(qmpd: VMFactory, tmp_path: Path, release: str) -> None:
    for name in "ex":
        qemu_img("create", "-q", "-f", "qcow2", tmp_path / name, "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", tmp_path / "e", tmp_path / "d")
    command_line = ["-machine", "pc", "-nodefaults", "-incoming", "defer"]
    for name, behind in (("e", None), ("d", "e"), ("x", None)):
        node = {"driver": "qcow2", "node-name": name, "file": {"driver": "file", "filename": str(tmp_path / name)}}
        command_line += ["-blockdev", json.dumps(node | ({} if behind is None else {"backing": behind}))]
    vm = qmpd(release=release, command_line=[*command_line, "-device", "virtio-blk-pci,drive=d"])
    with closing(Monitor(vm.qmp_path)) as monitor:
        for command, options in _STARTS.items():
            said = monitor(command, job_id="j", **options)["error"]["desc"]
            told = re.sub(r"#block\d+", "#block", said)
            inserted = command in ("blockdev-backup", "block-stream") and release != "5.2"
            prefix = "Could not create node: " if inserted else ""
            if release in _OLDER:
                assert told == f"{prefix}Block node is read-only"
            else:
                assert told == f"{prefix}Inactive 'd' can't be a {_FILTERS[command]} child of active '#block'"
        assert monitor("query-block-jobs") == {"return": []}
        options = {"driver": "qcow2", "file": "x", "size": 1 << 20}
        assert monitor("blockdev-create", job_id="j", options=options) == {"return": {}}
        job = monitor.concluded()
        wanted = "Block node is read-only" if release in _OLDER else "Permission 'write, resize' unavailable on"
        assert job["error"].startswith(wanted)
        # Who exports a disk has it from then on.
        place = {"type": "unix", "data": {"path": str(tmp_path / "n")}}
        assert monitor("nbd-server-start", addr=place) == {"return": {}}
        assert monitor("block-export-add", type="nbd", id="v", node_name="x", writable=True) == {"return": {}}
        assert monitor("blockdev-snapshot-internal-sync", device="x", name="s") == {"return": {}}


def test_what_is_written_as_it_was_read_must_be_writable(qmpd: VMFactory, tmp_path: Path) -> None:
    """A node that copies on read is refused on top of a read-only one, whether or not it is read-only itself."""
    (tmp_path / "d").write_bytes(bytes(1 << 20))
    with closing(Monitor(qmpd(machine="none").qmp_path)) as monitor:
        file = {"driver": "file", "filename": str(tmp_path / "d")}
        assert monitor("blockdev-add", driver="raw", node_name="d", read_only=True, file=file) == {"return": {}}
        for read_only in (False, True):
            reply = monitor("blockdev-add", driver="copy-on-read", node_name="c", file="d", read_only=read_only)
            assert reply["error"]["desc"] == "Block node is read-only"
        assert monitor("blockdev-add", driver="preallocate", node_name="c", file="d") == {"return": {}}
