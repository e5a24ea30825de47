"""Random sequences of commands about disks: qmpd, under virtual time, and real QEMU have to say the same.

`QMPD_EXAMPLES` sets how many are tried; `python -m tests.operations.beside` tries more, and makes them short.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.operations import RELEASES
from tests.operations.beside import compare_all, prepared
from tests.operations.drawing import Scenario
from tests.operations.sequences import drawn
from tests.real_qemu import programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.operations.drawing import Step

EXAMPLES = int(os.environ.get("QMPD_EXAMPLES", "2"))

pytestmark = pytest.mark.skipif(shutil.which("qemu-io") is None, reason="qemu-img and qemu-io are not installed")


@pytest.fixture(scope="module")
def images() -> Iterator[Path]:
    with prepared() as folder:
        yield folder


def check(images: Path, scenarios: Mapping[str, Scenario], kinds: Mapping[str, str] | None = None) -> None:
    """Each release has to say what the real one says to its scenario, of some kind."""
    present = {release: scenario for release, scenario in scenarios.items() if release in programs()}
    if not present:
        pytest.skip(f"no QEMU {', '.join(scenarios)} is installed")
    found = compare_all(images, present)
    # A real program that is late on a busy computer says something else the next time; qmpd does not.
    again = {release: present[release] for release, difference in found.items() if difference is not None}
    told = [
        f"{release}{f', {kinds[release]}' if kinds else ''}: {difference}"
        for release, difference in (compare_all(images, again) if again else {}).items() if difference is not None
    ]  # fmt: skip
    assert not told, "\n".join(told)


@pytest.mark.parametrize("number", range(EXAMPLES))
def test_random_sequences_are_answered_as_real_qemu_does(images: Path, number: int) -> None:
    made = {release: drawn(7 * place + number + 1) for place, release in enumerate(RELEASES)}
    check(
        images, {release: scenario for release, (_, scenario) in made.items()},
        {release: kind for release, (kind, _) in made.items()},
    )  # fmt: skip


# What once went another way: each a short sequence that shows it.
SHORT: dict[str, list[Step]] = {
    "a limit counts zeros that cost something": [
        ("blockdev-mirror", {"job-id": "j", "device": "q", "target": "e", "sync": "full", "speed": 1,
                             "buf-size": 65536}),
        ("query-block-jobs", {}),
    ],
    "a limit of speed holds up a failure, too": [
        ("blockdev-add", {"driver": "raw", "node-name": "a", "file": {
            "driver": "blkdebug", "image": "s", "inject-error": [{"event": "read_aio", "errno": 5}]}}),
        ("blockdev-mirror", {"job-id": "j", "device": "a", "target": "t", "sync": "full", "speed": 1,
                             "buf-size": 65536}),
        ("query-block-jobs", {}),
        ("block-job-set-speed", {"device": "j", "speed": 0}),
    ],
    "nobody resizes what a job works on": [
        ("blockdev-mirror", {"job-id": "j", "device": "s", "target": "t", "sync": "full", "speed": 1,
                             "buf-size": 65536}),
        ("blockdev-create", {"job-id": "k", "options": {"driver": "qcow2", "file": "s", "size": 1 << 20}}),
        ("query-jobs", {}),
        ("block-export-add", {"type": "nbd", "id": "x", "node-name": "t"}),
        ("blockdev-del", {"node-name": "t"}),
        ("blockdev-reopen", {"options": [{"driver": "raw", "node-name": "t", "read-only": True,
                                          "file": {"driver": "file", "filename": "@DIR@/t.raw"}}]}),
    ],
    "filters that cannot be put there": [
        ("blockdev-backup", {"job-id": "k", "device": "s", "target": "base", "sync": "full", "speed": 1}),
        ("blockdev-backup", {"job-id": "j", "device": "q", "target": "t", "sync": "full", "filter-node-name": "z"}),
        ("block-stream", {"job-id": "j", "device": "top", "filter-node-name": "z"}),
        ("blockdev-mirror", {"job-id": "j", "device": "q", "target": "mid", "sync": "full"}),
    ],
    "jobs pause wherever the graph changes": [
        ("blockdev-mirror", {"job-id": "j", "device": "s", "target": "t", "sync": "full", "speed": 1,
                             "buf-size": 65536}),
        ("blockdev-add", {"driver": "raw", "node-name": "s", "file": "z"}),
        ("blockdev-snapshot-sync", {"node-name": "q", "snapshot-file": "@DIR@/n.qcow2", "snapshot-node-name": "n"}),
        ("block-export-add", {"type": "nbd", "id": "x", "node-name": "e"}),
        ("drive-mirror", {"job-id": "j", "device": "top", "target": "@DIR@/m", "sync": "full", "format": "raw"}),
        ("blockdev-del", {"node-name": "e"}),
    ],
    "what is not free, is none, or may have nothing behind it": [
        ("drive-mirror", {"job-id": "j", "device": "s", "target": "@DIR@/out.a", "sync": "full", "format": "raw",
                          "buf-size": 65536}),
        ("blockdev-add", {"driver": "qcow2", "node-name": "n1",
                          "file": {"driver": "file", "filename": "@DIR@/out.a"}}),
        ("blockdev-add", {"driver": "qcow2", "node-name": "t", "file": "s"}),
        ("drive-mirror", {"job-id": "k", "device": "s", "target": "@DIR@/no/dir", "sync": "full", "format": "bogus",
                          "mode": "existing"}),
        ("drive-mirror", {"job-id": "k", "device": "s", "target": "@DIR@/no/dir", "sync": "full", "mode": "existing"}),
        ("blockdev-mirror", {"job-id": "k", "device": "e", "target": "small", "sync": "top", "replaces": "top"}),
        ("drive-backup", {"job-id": "k", "device": "top", "target": "@DIR@/out.b", "sync": "top", "format": "qcow2"}),
        ("drive-mirror", {"job-id": "k", "device": "top", "target": "@DIR@/out.b", "sync": "none", "format": "qcow2",
                          "mode": "existing"}),
        ("block-job-cancel", {"device": "k"}),
        ("block-stream", {"job-id": "k", "device": "nope", "base-node": "s", "base": "no"}),
        ("drive-backup", {"job-id": "k", "device": "top", "target": "@DIR@/t.raw", "sync": "none", "format": "raw",
                          "mode": "existing"}),
    ],
    "jobs that are over, and not dismissed": [
        ("block-commit", {"job-id": "j", "device": "top", "top-node": "mid", "speed": 1, "auto-dismiss": False}),
        ("block-job-cancel", {"device": "j", "force": True}),
        ("block-commit", {"job-id": "1", "device": "top"}),
        ("blockdev-mirror", {"job-id": "k", "device": "q", "target": "e", "sync": "full", "auto-dismiss": False}),
        ("block-job-cancel", {"device": "k", "force": True}),
        ("query-named-block-nodes", {"flat": True}),
        ("blockdev-del", {"node-name": "q"}),
        ("blockdev-snapshot-internal-sync", {"device": "q", "name": "i"}),
        ("job-dismiss", {"id": "k"}),
        ("blockdev-del", {"node-name": "q"}),
        ("blockdev-create", {"job-id": "k", "options": {"driver": "qcow2", "file": "t", "size": 1 << 20,
                                                        "preallocation": "full"}}),
        ("query-jobs", {}),
    ],
    "what is there is not written compressed": [
        ("blockdev-backup", {"job-id": "j", "device": "s", "target": "q", "sync": "full", "on-target-error": "stop",
                             "compress": True}),
        ("query-block-jobs", {}),
        ("human-monitor-command", {"command-line": 'qemu-io q "write -c 1M 64k"'}),
        ("human-monitor-command", {"command-line": 'qemu-io q "write -c 512 512"'}),
        ("block-job-cancel", {"device": "j", "force": True}),
    ],
    "options of faults, and who is told by a device's name": [
        ("query-named-block-nodes", {"flat": True}),
        ("block-stream", {"job-id": "k", "device": "d0", "base-node": "base"}),
        ("block-stream", {"job-id": "k", "device": "mid", "speed": 1, "filter-node-name": "flt"}),
        ("block-stream", {"job-id": "j", "device": "top", "base-node": "mid"}),
        ("blockdev-add", {"driver": "raw", "node-name": "acc", "read-only": True, "file": "flt"}),
    ],
    "commit writes what jobs and exports have as disks, too": [
        ("human-monitor-command", {"command-line": "block_stream top 1"}),
        ("human-monitor-command", {"command-line": "commit d0"}),
        ("human-monitor-command", {"command-line": "block_job_cancel -f top"}),
        ("nbd-server-start", {"addr": {"type": "unix", "data": {"path": "@DIR@/nbd"}}}),
        ("block-export-add", {"type": "nbd", "id": "x", "node-name": "top"}),
        ("human-monitor-command", {"command-line": "commit all"}),
        ("blockdev-del", {"node-name": "top"}),
        ("block-export-del", {"id": "x"}),
        ("blockdev-del", {"node-name": "top"}),
        ("blockdev-backup", {"job-id": "j", "device": "mid", "target": "t", "sync": "top", "auto-dismiss": False}),
        ("query-block-jobs", {}),
    ],
    "what was between belongs to a stream until it is dismissed": [
        ("block-stream", {"job-id": "k", "device": "top", "base-node": "base", "auto-dismiss": False}),
        ("human-monitor-command", {"command-line": 'qemu-io mid "discard 1048576 512"'}),
        ("human-monitor-command", {"command-line": 'qemu-io mid "read 1048576 512"'}),
        ("job-dismiss", {"id": "k"}),
        ("human-monitor-command", {"command-line": 'qemu-io mid "write 1048576 512"'}),
        ("blockdev-del", {"node-name": "mid"}),
    ],
    "a backup that has failed and waits": [
        ("blockdev-backup", {"job-id": "k", "device": "s", "target": "base", "sync": "full", "speed": 1,
                             "compress": True, "auto-dismiss": False}),
        ("query-block-jobs", {}),
        ("job-pause", {"id": "k"}),
        ("job-resume", {"id": "k"}),
        ("block-job-set-speed", {"device": "k", "speed": 0}),
        ("query-jobs", {}),
    ],
    "an image behind another stays as large as it is": [
        ("block_resize", {"node-name": "mid", "size": 2 << 20}),
        ("block_resize", {"node-name": "base", "size": 2 << 20}),
    ],
    "a mirror that cannot flush as it ends": [
        ("blockdev-add", {"driver": "qcow2", "node-name": "a", "file": {
            "driver": "blkdebug", "image": {"driver": "file", "filename": "@DIR@/o.qcow2"},
            "set-state": [{"event": "flush_to_disk", "state": 1, "new_state": 2}],
            "inject-error": [{"event": "flush_to_disk", "once": True, "immediately": True, "state": 2}]}}),
        ("blockdev-mirror", {"job-id": "j", "device": "q", "target": "a", "sync": "full", "filter-node-name": "f",
                             "on-target-error": "stop"}),
        ("human-monitor-command", {"command-line": 'qemu-io f "write -P 2 0 64k"'}),
        ("block-job-cancel", {"device": "j"}),
        ("query-block-jobs", {}),
        ("block-job-resume", {"device": "j"}),
        ("query-block-jobs", {}),
    ],
    "what is told as a job comes to its end, or to none, beside another": [
        ("blockdev-backup", {"job-id": "k", "device": "t", "target": "z", "sync": "none"}),
        ("block-stream", {"job-id": "j", "device": "top", "base-node": "mid", "auto-dismiss": False}),
        ("blockdev-backup", {"job-id": "i", "device": "e", "target": "base", "sync": "full", "speed": 1}),
        ("x-debug-query-block-graph", {}),
        ("job-dismiss", {"id": "j"}),
        ("blockdev-backup", {"job-id": "i", "device": "e", "target": "q", "sync": "full", "auto-dismiss": False}),
        ("human-monitor-command", {"command-line": "commit all"}),
        ("job-dismiss", {"id": "i"}),
        ("human-monitor-command", {"command-line": "drive_add 0 if=none,id=n1,file=null-co://,format=raw"}),
        ("human-monitor-command", {"command-line": "drive_del n1"}),
        ("query-named-block-nodes", {"flat": True}),
    ],
    "who is in whose way, and drives without a medium": [
        ("block-commit", {"job-id": "k", "device": "top", "base-node": "base"}),
        ("nbd-server-start", {"addr": {"type": "unix", "data": {"path": "@DIR@/nbd"}}}),
        ("nbd-server-add", {"device": "top", "name": "y", "writable": True}),
        ("block-export-add", {"type": "nbd", "id": "x", "node-name": "mid"}),
        ("block-export-add", {"type": "nbd", "id": "x", "node-name": "base"}),
        ("human-monitor-command", {"command-line": "drive_del top"}),
        ("human-monitor-command", {"command-line": "drive_add 0 if=none,id=dr9"}),
        ("change-backing-file", {"device": "dr9", "image-node-name": "top", "backing-file": ""}),
        ("human-monitor-command", {"command-line": "qemu-io z \"info\""}),
        ("human-monitor-command", {"command-line": "qemu-io z \"write -z 0 3G\""}),
    ],
    "a job in front of others, and what is written before what has to be read": [
        ("blockdev-mirror", {"job-id": "k", "device": "top", "target": "e", "sync": "none", "buf-size": 65536}),
        ("block-stream", {"job-id": "j", "device": "mid", "speed": 1}),
        ("block-job-cancel", {"device": "j", "force": True}),
        ("block-stream", {"job-id": "j", "device": "base"}),
        ("drive-backup", {"job-id": "j", "device": "q", "target": "@DIR@/o.qcow2", "sync": "none", "mode": "existing",
                          "format": "qcow2"}),
        ("blockdev-add", {"driver": "raw", "node-name": "b", "file": {
            "driver": "blkdebug", "image": {"driver": "null-co", "size": 4 << 20},
            "inject-error": [{"event": "write_aio", "errno": 28, "sector": 4096}]}}),
        ("blockdev-backup", {"job-id": "i", "device": "base", "target": "b", "sync": "full"}),
        ("query-jobs", {}),
    ],
    "disks made smaller, and overlays of overlays": [
        ("block_resize", {"node-name": "q", "size": 0}),
        ("blockdev-snapshot-sync", {"node-name": "top", "snapshot-file": "@DIR@/n.qed", "snapshot-node-name": "n",
                                    "format": "qed"}),
        ("query-named-block-nodes", {"flat": True}),
    ],
}  # fmt: skip


# Which disks a snapshot of all is of, beside each of these jobs.
BESIDE: dict[str, Step] = {
    "none": ("query-jobs", {}),
    "stream": ("block-stream", {"job-id": "k", "device": "mid", "speed": 1}),
    "mirror": ("blockdev-mirror", {"job-id": "k", "device": "q", "target": "e", "sync": "full", "speed": 1,
                                   "buf-size": 65536}),
    "backup": ("blockdev-backup", {"job-id": "k", "device": "q", "target": "e", "sync": "full", "speed": 1}),
    "commit": ("block-commit", {"job-id": "k", "device": "top", "top-node": "mid", "speed": 1}),
    "active": ("block-commit", {"job-id": "k", "device": "top", "base-node": "mid", "speed": 1}),
}  # fmt: skip


def test_snapshots_of_all_disks_beside_jobs(images: Path) -> None:
    _, scenario = drawn(1)
    nodes = [each for each in scenario.options if not each.startswith("{") or '"driver": "qcow2"' in each]
    options = [each for each, after in zip(nodes, [*nodes[1:], ""], strict=True)
               if each != "-blockdev" or after.startswith("{")]  # fmt: skip
    jobs = list(BESIDE.values())

    def beside(job: Step) -> Scenario:
        steps = [job, ("human-monitor-command", {"command-line": "savevm t"}),
                 ("query-named-block-nodes", {"flat": True}), ("x-debug-query-block-graph", {}),
                 ("block-job-cancel", {"device": "k", "force": True}), ("x-debug-query-block-graph", {})]  # fmt: skip
        return scenario._replace(options=options, steps=steps)

    # Each release is asked about two of the jobs.
    check(images, {release: beside(jobs[place]) for place, release in enumerate(RELEASES)})
    check(images, {release: beside(jobs[-1 - place]) for place, release in enumerate(RELEASES)})


@pytest.mark.parametrize("name", SHORT)
def test_short_sequences(images: Path, name: str) -> None:
    _, scenario = drawn(1)
    check(images, dict.fromkeys(RELEASES, scenario._replace(steps=SHORT[name])))


# The same for the block graph; the drives, the group and the thread of these are there beside the nodes.
_BESIDE = [
    "-object", "throttle-group,id=g0", "-object", "iothread,id=io0",
    "-drive", "if=none,id=dr0,file=@DIR@/o.qcow2,format=qcow2", "-drive", "if=none,id=dr1",
]  # fmt: skip
_PART = "/machine/peripheral/vd0/virtio-backend"


def _human(*lines: str) -> list[Step]:
    return [("human-monitor-command", {"command-line": line}) for line in lines]


def _histogram(**boundaries: list[int]) -> Step:
    given = {name.replace("_", "-"): value for name, value in boundaries.items()}
    return "block-latency-histogram-set", {"id": _PART, **given}


GRAPH: dict[str, list[Step]] = {
    "how long requests take, and what was done": [
        _histogram(boundaries=[0, 3]), _histogram(boundaries=[5, 1 << 50], boundaries_write=[7, 7]),
        _histogram(boundaries_flush=[1 << 50]), ("query-blockstats", {}), _histogram(), ("query-blockstats", {}),
        ("block-latency-histogram-set", {"id": "vd0", "boundaries": [1]}),
        *_human("info blockstats", "qemu-io -d vd0 \"flush\"", "qemu-io -d vd0/virtio-backend \"flush\"",
                "qemu-io dr1 \"map\"", "qemu-io dr1 \"truncate 1M\"", "qemu-io dr1 \"flush\"",
                "qemu-io mid \"truncate 8M\"", "info block -v", "info block -n -v top", "block_resize dr0 5"),
        ("blockdev-add", {"driver": "raw", "node-name": "a", "size": 512, "file": {"driver": "null-co", "size": 512}}),
        ("blockdev-add", {"driver": "blkverify", "node-name": "b", "test": "z", "raw": "z"}),
        ("blockdev-add", {"driver": "copy-before-write", "node-name": "c", "target": "z", "file": "a"}),
        ("device_add", {"driver": "virtio-blk-pci", "drive": "c", "share-rw": True}),
        ("x-debug-query-block-graph", {}),
    ],
    "what options may be, and when they are looked at": [
        *_human("drive_add 0 if=none,id=n1,file=@DIR@/small.raw,format=raw,offset=bad",
                "drive_add 0 if=none,id=n2,file=@DIR@/small.raw,format=raw,file.locking=bad",
                "drive_add 0 if=none,id=n3,file=@DIR@/small.raw,format=raw,file.read-only=bad",
                "drive_add 0 if=none,id=n4,file=@DIR@/no,format=raw,discard=bad",
                "drive_add 0 if=none,id=n5,driver=throttle,file.driver=null-co",
                "drive_add 0 if=none,id=n6,driver=quorum,children.0.driver=null-co,vote-threshold=bad"),
        ("blockdev-add", {"driver": "blkdebug", "image": "z", "align": 4096, "opt-write-zero": 1000, "node-name": "a"}),
        ("blockdev-add", {"driver": "qcow2", "file": "base", "node-name": "a"}),
        ("blockdev-add", {"driver": "null-co", "node-name": "q", "force-share": True}),
        ("blockdev-add", {"driver": "quorum", "children": ["nope"], "vote-threshold": 0, "node-name": "a"}),
        ("blockdev-add", {"driver": "preallocate", "file": "z", "prealloc-align": 1000, "node-name": "q"}),
        ("blockdev-add", {"driver": "blklogwrites", "file": "z", "node-name": "a",
                          "log": {"driver": "file", "filename": "@DIR@/no", "aio": "native"}}),
        ("blockdev-add", {"driver": "snapshot-access", "file": "q", "node-name": "b"}),
        ("query-named-block-nodes", {"flat": True}),
        ("x-blockdev-set-iothread", {"node-name": "mid", "iothread": "io0"}),
        ("change-backing-file", {"device": "dr0", "image-node-name": "mid", "backing-file": ""}),
        ("block_resize", {"node-name": "z", "size": 512}),
        ("block_resize", {"node-name": "q", "size": 1 << 62}),
        # This ends 5.2.
        ("blockdev-add", {"driver": "blkverify", "raw": "z", "test": "a", "node-name": "a"}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPH)
def test_the_block_graph_beside_real_qemu(images: Path, name: str) -> None:
    _, scenario = drawn(5)
    assert "pc" in scenario.options[1]
    check(images, dict.fromkeys(RELEASES, Scenario([*scenario.options, *_BESIDE], GRAPH[name])))
