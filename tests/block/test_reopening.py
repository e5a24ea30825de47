"""Giving open nodes other options: what is refused, in the words of release 7.2, and what of a chain stays.

The answers are those that real QEMU gave to the same commands.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.block.images import needs_qemu_img, qemu_img
from tests.block.support import Monitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qmpd.testing import VMFactory

pytestmark = needs_qemu_img


@pytest.fixture
def monitor(qmpd: VMFactory, tmp_path: Path) -> Iterator[Monitor]:
    for number in range(3):
        qemu_img("create", "-q", "-f", "qcow2", tmp_path / str(number), "3M")
    with closing(Monitor(qmpd(release="7.2", command_line=["-nodefaults"]).qmp_path)) as made:
        yield made


def image(folder: Path, number: int, **more: Any) -> dict[str, Any]:
    file = {"driver": "file", "filename": str(folder / str(number)), "node-name": f"f{number}"}
    return {"driver": "qcow2", "node-name": f"n{number}", "file": file, **more}


def chain(folder: Path) -> dict[str, Any]:
    return image(folder, 0, backing=image(folder, 1, backing=image(folder, 2)))


def add(monitor: Monitor, options: dict[str, Any]) -> None:
    assert monitor("blockdev-add", **options) == {"return": {}}


def reopened(monitor: Monitor, options: dict[str, Any]) -> str:
    reply = monitor("blockdev-reopen", options=[options])
    return "" if reply == {"return": {}} else str(reply["error"]["desc"])


def read_only(monitor: Monitor, name: str) -> bool:
    nodes = {each["node-name"]: each for each in monitor("query-named-block-nodes")["return"]}
    return bool(nodes[name]["ro"])


def test_a_chain(monitor: Monitor, tmp_path: Path) -> None:
    whole = chain(tmp_path)
    add(monitor, whole)
    assert reopened(monitor, whole) == ""
    assert [read_only(monitor, name) for name in ("n0", "n1", "f1", "f0")] == [False, True, True, False]
    assert reopened(monitor, image(tmp_path, 0)) == "backing is missing for 'n0'"
    renamed = {**whole, "backing": {**whole["backing"], "node-name": "x"}}
    assert reopened(monitor, renamed) == "Cannot change the option 'node-name'"
    assert reopened(monitor, {**whole, "detect-zeroes": "unmap"}).startswith("setting detect-zeroes to unmap is not")
    assert reopened(monitor, {**whole, "force-share": True}) == "Cannot change the option 'force-share'"
    add(monitor, {"driver": "compress", "node_name": "c", "file": "n0"})
    words = "Block format 'compress' used by node 'c' does not support reopening files"
    assert reopened(monitor, {"driver": "compress", "node-name": "c", "file": "n0"}) == words


def test_what_was_left_out_was_by_default(monitor: Monitor, tmp_path: Path) -> None:
    options = image(tmp_path, 0)
    options["file"] |= {"locking": "off", "x-check-cache-dropped": True}
    add(monitor, options)
    del options["file"]["x-check-cache-dropped"]
    assert reopened(monitor, options) == ""
    del options["file"]["locking"]
    assert reopened(monitor, options) == "Option 'locking' cannot be reset to its default value"


def test_while_a_job_is_at_work(monitor: Monitor, tmp_path: Path) -> None:
    whole = chain(tmp_path)
    add(monitor, whole)
    asked = {"job_id": "j", "device": "n1", "filter_node_name": "cor", "auto_finalize": False}
    assert monitor("block-stream", **asked) == {"return": {}}
    assert not read_only(monitor, "n1")
    assert reopened(monitor, whole) == "Cannot change the option 'backing.backing.file.node-name'"
    words = "Read-only block node 'n1' cannot support read-write users"
    assert reopened(monitor, {**whole["backing"], "read-only": True}) == words
    words = "Cannot change frozen 'backing' link from 'n1' to 'n2'"
    assert reopened(monitor, {**whole["backing"], "read-only": False, "backing": None}) == words
    # The job keeps what it works on.
    assert reopened(monitor, {**whole, "backing": None}) == ""
    for _ in range(100):
        if any(each["status"] == "pending" for each in monitor("query-jobs")["return"]):
            break
    assert monitor("job-finalize", id="j") == {"return": {}}
    assert monitor("query-jobs") == {"return": []}


def test_who_was_described_with_what_is_gone(monitor: Monitor, tmp_path: Path) -> None:
    add(monitor, chain(tmp_path))
    done = monitor("block-commit", job_id="j", device="n0", top_node="n1", base_node="n2")
    assert done == {"return": {}}
    while monitor("query-jobs")["return"]:
        pass
    assert monitor.human('qemu-io n0 "reopen -o backing.detect-zeroes=on"') == ""
    (base,) = [each for each in monitor("query-named-block-nodes")["return"] if each["node-name"] == "n2"]
    assert base["detect_zeroes"] == "on"


def test_what_nobody_knows_of_is_cleared_in_an_image_that_becomes_writable(monitor: Monitor, tmp_path: Path) -> None:
    with (tmp_path / "0").open("r+b") as file:
        file.seek(88)
        file.write(b"\xff" * 7 + b"\xfc")
    add(monitor, image(tmp_path, 0, **{"read-only": True}))
    assert monitor.human('qemu-io n0 "reopen -w"') == ""
    assert (tmp_path / "0").read_bytes()[88:96] == bytes(8)


def test_all_below_become_writable_again(monitor: Monitor, tmp_path: Path) -> None:
    file = {"driver": "file", "filename": str(tmp_path / "0")}
    add(monitor, {"driver": "raw", "node-name": "r", "file": {"driver": "raw", "file": file}})
    for option, read_only in (("-r", True), ("-w", False)):
        assert monitor.human(f'qemu-io r "reopen {option}"') == ""
        assert [each["ro"] for each in monitor("query-named-block-nodes")["return"]] == [read_only] * 3
    monitor.human('qemu-io r "write -P 7 0 512"')
    assert (tmp_path / "0").read_bytes()[:512] == b"\x07" * 512


def test_threads_and_groups(monitor: Monitor, tmp_path: Path) -> None:
    for number in (0, 2):
        add(monitor, image(tmp_path, number))
        monitor("object-add", qom_type="iothread", id=f"t{number}")
        monitor("device_add", driver="virtio-scsi", id=f"s{number}", iothread=f"t{number}")
        added = monitor("device_add", driver="scsi-hd", drive=f"n{number}", share_rw=True, bus=f"s{number}.0")
        assert added == {"return": {}}
    assert reopened(monitor, image(tmp_path, 0, backing="n2")) == "Cannot change iothread of active block backend"
    monitor("object-add", qom_type="throttle-group", id="g", limits={"iops-total": 1000})
    throttle = {"driver": "throttle", "node-name": "t", "throttle-group": "g", "file": image(tmp_path, 1)}
    add(monitor, throttle)
    said = reopened(monitor, {**throttle, "throttle-group": "none"})
    assert said == "Throttle group 'none' does not exist"
    assert monitor("object-del", id="g")["error"]["desc"] == "object 'g' is in use, can not be deleted"


@pytest.mark.parametrize("kind", ["mirror", "backup", "commit"])
def test_limits_of_nodes_hold_jobs_up(qmpd: VMFactory, tmp_path: Path, kind: str) -> None:
    qemu_img("create", "-q", "-f", "raw", tmp_path / "base", "8M")
    (tmp_path / "data").write_bytes(b"\1" * (8 << 20))
    behind = ("-B", tmp_path / "base", "-F", "raw")
    qemu_img("convert", "-f", "raw", "-O", "qcow2", *behind, tmp_path / "data", tmp_path / "top")
    vm = qmpd(command_line=["-nodefaults"], clock="virtual")
    with closing(Monitor(vm.qmp_path)) as monitor:
        monitor("object-add", qom_type="throttle-group", id="g", limits={"bps-total": 1 << 20})
        image = {"driver": "qcow2", "file": {"driver": "file", "filename": str(tmp_path / "top")}}
        node = {"driver": "throttle", "throttle_group": "g", "node_name": "n", "file": image}
        add(monitor, node)
        add(monitor, {"driver": "null-co", "node_name": "t", "size": 8 << 20})
        if kind == "commit":
            over = {"driver": "qcow2", "file": {"driver": "file", "filename": str(tmp_path / "over")}, "backing": "n"}
            qemu_img("create", "-q", "-f", "qcow2", tmp_path / "over", "8M")
            add(monitor, {"node_name": "o", **over})
            assert monitor("block-commit", job_id="j", device="o", top_node="n") == {"return": {}}
        else:
            assert monitor(f"blockdev-{kind}", job_id="j", device="n", target="t", sync="full") == {"return": {}}
        vm.clock.advance(2)
        (job,) = monitor("query-jobs")["return"]
        assert job["status"] == "running"
        assert 0 < job["current-progress"] <= 4 << 20
        vm.clock.advance(20)
        assert all(each["status"] == "ready" for each in monitor("query-jobs")["return"])
