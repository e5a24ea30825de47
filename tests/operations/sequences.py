"""Sequences of commands about disks, drawn at random: jobs and their verbs, bitmaps, transactions, snapshots, exports.

What is held back by a limit of one byte a second stays where it is, so that nothing depends on the moment.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from tests.operations import graph_steps, name_steps
from tests.operations.drawing import Scenario, some

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.operations.drawing import Step

PREPARE = (
    "qemu-img create -q -f qcow2 base.qcow2 4M",
    "qemu-io -f qcow2 -c 'write -P 170 0 2M' base.qcow2",
    "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2 4M",
    "qemu-io -f qcow2 -c 'write -P 187 1M 1M' mid.qcow2",
    "qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 4M",
    "qemu-io -f qcow2 -c 'write -P 204 3M 64k' top.qcow2",
    "qemu-img create -q -f raw s.raw 4M",
    "qemu-io -f raw -c 'write -P 17 0 4M' s.raw",
    "qemu-img create -q -f raw t.raw 4M",
    "qemu-img create -q -f qcow2 q.qcow2 4M",
    "qemu-io -f qcow2 -c 'write -P 51 1M 192k' q.qcow2",
    "qemu-img create -q -f qcow2 e.qcow2 4M",
    "qemu-img create -q -f qcow2 o.qcow2 4M",
    "qemu-img create -q -f raw small.raw 1M",
    "qemu-img create -q -f qcow2 db.qcow2 4M",
    "qemu-img create -q -f qcow2 -b db.qcow2 -F qcow2 d.qcow2 4M",
    "qemu-io -f qcow2 -c 'write -P 99 2M 128k' d.qcow2",
    "cp s.raw bad.raw",
    "cp t.raw full.raw",
)
NODES = ("base", "mid", "top", "s", "t", "q", "e", "small")
IDS = ("j", "k")
BITMAPS = ("b0", "b1", "b2")
_BACKING = {"mid": "base", "top": "mid"}
_RAW = ("s", "t", "small")


# What cannot be read in one place, and has no room in one.
_FAULTS: dict[str, dict[str, Any]] = {
    "bad": {"event": "read_aio", "errno": 5},
    "full": {"event": "write_aio", "errno": 28},
}


def spelled(steps: Sequence[Step]) -> list[str]:
    """Commands as they are sent."""
    return [json.dumps({"execute": name, "arguments": arguments} if arguments else {"execute": name})
            for name, arguments in steps]  # fmt: skip


def _options(draw: random.Random) -> list[str]:
    machine = draw.choice(("none", "none", "pc"))
    options = ["-machine", machine, "-display", "none", "-nodefaults", *(["-S"] if machine == "pc" else [])]
    for name in NODES:
        driver = "raw" if name in _RAW else "qcow2"
        more = {"backing": _BACKING[name]} if name in _BACKING else {}
        file = {"driver": "file", "filename": f"@DIR@/{name}.{driver}"}
        options += ["-blockdev", json.dumps({"driver": driver, "node-name": name, "file": file, **more})]
    options += ["-blockdev", '{"driver": "null-co", "node-name": "z", "size": 4194304, "read-zeroes": true}']
    for name, fault in _FAULTS.items():
        file = {"driver": "file", "filename": f"@DIR@/{name}.raw"}
        found = {**fault, "once": draw.random() < 0.5, "sector": draw.choice((0, 2048, 4096))}
        image = {"driver": "blkdebug", "image": file, "inject-error": [found]}
        options += ["-blockdev", json.dumps({"driver": "raw", "node-name": name, "file": image})]
    options += ["-drive", "if=none,id=d0,file=@DIR@/d.qcow2,format=qcow2"]
    if machine == "pc":
        options += ["-device", "virtio-blk-pci,drive=top,id=vd0"]
        if draw.random() < 0.5:
            options += ["-device", "virtio-blk-pci,drive=s,id=vd1"]
    return options


_FLAGS: dict[str, Sequence[Any]] = {
    "auto_finalize": (None, None, None, True, False),
    "auto_dismiss": (None, None, None, True, False),
}
_SPEED = (None, None, 0, 1, 1)
_FILTER = (None, None, None, "flt")
_POLICY = (None, None, "report", "ignore", "stop", "enospc")
_GRANULARITY = (None, None, 512, 4096, 65536, 1 << 20, 1000, 0)


def _stream(draw: random.Random) -> Step:
    device = draw.choice(("top", "top", "top", "mid", "q", "s", "base", "nope", "d0"))
    more = some(draw, speed=_SPEED, on_error=_POLICY, base_node=(None, None, "base", "mid", "s"),
                 backing_file=(None, None, None, "words"), filter_node_name=_FILTER, **_FLAGS)  # fmt: skip
    if draw.random() < 0.1:
        more["base"] = draw.choice(("@DIR@/base.qcow2", "@DIR@/mid.qcow2", "no"))
    return "block-stream", {"job-id": draw.choice(IDS), "device": device, **more}


def _commit(draw: random.Random) -> Step:
    device = draw.choice(("top", "top", "top", "mid", "q", "s"))
    more = some(draw, speed=_SPEED, on_error=_POLICY, base_node=(None, None, "base", "mid"),
                 top_node=(None, None, "mid", "top", "base"), backing_file=(None, None, None, "words"),
                 filter_node_name=(None, None, None, "flt"), **_FLAGS)  # fmt: skip
    return "block-commit", {"job-id": draw.choice(IDS), "device": device, **more}


def _mirror(draw: random.Random) -> Step:
    target = draw.choice(("t", "t", "e", "q", "z", "small", "mid", "full"))
    more = some(draw, speed=_SPEED, buf_size=(65536, 65536, None, 0, 4096, -1), granularity=_GRANULARITY,
                 copy_mode=(None, None, "background", "write-blocking"), filter_node_name=(None, None, "flt"),
                 on_source_error=_POLICY, on_target_error=_POLICY, replaces=(None, None, None, None, "top", "nope"),
                 unmap=(None, None, True, False), **_FLAGS)  # fmt: skip
    if more.get("speed"):
        more["buf-size"] = 65536
    sync = draw.choice(("full", "full", "top", "none"))
    device = draw.choice(("s", "s", "top", "q", "t", "e", "base", "bad", "d0"))
    return "blockdev-mirror", {"job-id": draw.choice(IDS), "device": device, "target": target, "sync": sync, **more}


def _backup(draw: random.Random) -> Step:
    target = draw.choice(("t", "t", "e", "q", "z", "small", "base", "full"))
    sync = draw.choice(("full", "full", "top", "none", "incremental", "bitmap"))
    more = some(draw, speed=_SPEED, on_source_error=_POLICY, on_target_error=_POLICY,
                 filter_node_name=_FILTER, compress=(None, None, None, None, True), **_FLAGS)  # fmt: skip
    if sync in ("incremental", "bitmap") or draw.random() < 0.1:
        more["bitmap"] = draw.choice(BITMAPS)
        if draw.random() < 0.7:
            more["bitmap-mode"] = draw.choice(("on-success", "never", "always"))
    device = draw.choice(("s", "s", "top", "q", "q", "t", "e", "base", "bad", "d0"))
    return "blockdev-backup", {"job-id": draw.choice(IDS), "device": device, "target": target, "sync": sync, **more}


def _drive_job(draw: random.Random) -> Step:
    """A mirror or backup into a file, which may be there."""
    name = draw.choice(("drive-mirror", "drive-backup"))
    more = some(draw, speed=_SPEED, format=(None, "raw", "qcow2", "qcow2", "bogus"),
                 mode=(None, None, "existing", "absolute-paths"), **_FLAGS)  # fmt: skip
    if name == "drive-mirror":
        more |= some(draw, granularity=_GRANULARITY, node_name=(None, None, "dm"), replaces=(None, None, None, "top"),
                      buf_size=(65536,))  # fmt: skip
    target = draw.choice(("@DIR@/out.a", "@DIR@/out.b", "@DIR@/o.qcow2", "@DIR@/no/dir"))
    sync = draw.choice(("full", "full", "top", "none"))
    device = draw.choice(("s", "top", "q", "d0", "bad"))
    return name, {"job-id": draw.choice(IDS), "device": device, "target": target, "sync": sync, **more}


def _create(draw: random.Random) -> Step:
    name = draw.choice(IDS)
    if draw.random() < 0.5:
        file = {"driver": "file", "filename": draw.choice(("@DIR@/new", "@DIR@/no/dir")),
                "size": draw.choice((0, 512, 1 << 20, 1 << 20, 1000))}  # fmt: skip
        return "blockdev-create", {"job-id": name, "options": file}
    more = some(draw, cluster_size=(None, 512, 4096, 65536, 1000, 2 << 20), version=(None, None, "v2", "v3"),
                 preallocation=(None, None, "metadata", "falloc", "full"), refcount_bits=(None, None, 1, 16, 64, 3),
                 lazy_refcounts=(None, None, True), backing_file=(None, None, None, "@DIR@/base.qcow2"),
                 backing_fmt=(None, None, None, "qcow2"))  # fmt: skip
    node = draw.choice(("new", "s", "nope", "t"))
    return "blockdev-create", {"job-id": name, "options": {
        "driver": "qcow2", "file": node, "size": draw.choice((1 << 20, 4 << 20, 1000, 0)), **more}}  # fmt: skip


def _verb(draw: random.Random) -> Step:
    name = draw.choice(IDS)
    verb = draw.choice(("pause", "resume", "cancel", "complete", "complete", "finalize", "dismiss", "speed", "force",
                        "change"))  # fmt: skip
    if verb == "speed":
        return "block-job-set-speed", {"device": name, "speed": draw.choice((-1, 0, 0, 1, 2))}
    if verb == "force":
        return "block-job-cancel", {"device": name, "force": draw.choice((True, True, False))}
    if verb == "change":
        mode = draw.choice(("background", "write-blocking"))
        return "block-job-change", {"id": name, "type": "mirror", "copy-mode": mode}
    if draw.random() < 0.5:
        return f"job-{verb}", {"id": name}
    return f"block-job-{verb}", {("id" if verb in ("finalize", "dismiss") else "device"): name}


def _human_job(draw: random.Random) -> Step:
    line = draw.choice((
        "info block-jobs", "block_job_cancel j", "block_job_cancel -f j", "block_job_complete j", "block_job_pause j",
        "block_job_resume j", "block_job_set_speed j 0", "block_job_set_speed j 1B", "block_job_cancel no",
        "block_stream top", "block_stream top 1B", "info block-jobs", "commit d0", "commit all", "commit q",
        "block_stream d0", "block_stream d0 1B @DIR@/db.qcow2", "drive_backup d0 @DIR@/h.qcow2 qcow2",
        "drive_backup -f d0 @DIR@/h.raw raw", "drive_backup -n d0 @DIR@/o.qcow2", "drive_mirror -f d0 @DIR@/h.raw raw",
        "drive_mirror d0 @DIR@/h.qcow2 qcow2", "block_job_set_speed d0 1B", "block_job_complete d0",
        "block_job_cancel d0", "block_job_cancel -f d0", "block_job_pause d0", "block_job_resume d0",
    ))  # fmt: skip
    return "human-monitor-command", {"command-line": line}


def _human_server(draw: random.Random) -> Step:
    line = draw.choice((
        "nbd_server_start unix:@DIR@/nbd", "nbd_server_start -a unix:@DIR@/nbd", "nbd_server_start -w unix:@DIR@/nbd",
        "nbd_server_start -a -w unix:@DIR@/nbd", "nbd_server_add d0", "nbd_server_add -w d0 x", "nbd_server_add s y",
        "nbd_server_remove x", "nbd_server_remove -f d0", "nbd_server_stop", "nbd_server_stop",
    ))  # fmt: skip
    return "human-monitor-command", {"command-line": line}


def _fleecing(draw: random.Random) -> Step:
    """A node that is to show a disk as it was: an image in front of it, its backup, and what others see of that."""
    name = draw.choice(("blockdev-add", "blockdev-backup", "block-export-add", "copy", "access"))
    if name == "blockdev-add":
        return name, {"driver": "qcow2", "node-name": "ov", "backing": draw.choice(("s", "q", "top")),
                      "file": {"driver": "file", "filename": "@DIR@/o.qcow2"}}  # fmt: skip
    if name == "copy":
        return "blockdev-add", {"driver": "copy-before-write", "node-name": "flt", "file": draw.choice(("s", "t")),
                                "target": "e"}  # fmt: skip
    if name == "access":
        return "blockdev-add", {"driver": "snapshot-access", "node-name": "acc", "file": "flt"}
    if name == "blockdev-backup":
        return name, {"job-id": draw.choice(IDS), "device": draw.choice(("s", "q", "top")), "target": "ov",
                      "sync": draw.choice(("none", "none", "full")), "filter-node-name": "flt"}  # fmt: skip
    return name, {"type": "nbd", "id": "x", "node-name": draw.choice(("ov", "acc"))}


def _query(draw: random.Random) -> Step:
    name = draw.choice(("query-jobs", "query-block-jobs", "query-block-jobs", "query-named-block-nodes", "query-block"))
    return name, {"flat": True} if name == "query-named-block-nodes" else {}


def _write(draw: random.Random) -> Step:
    node = draw.choice(("top", "s", "q", "e", "t", "mid"))
    kind = draw.choice(("write -P 7", "write -P 7", "write -z", "discard", "read"))
    offset = draw.choice((0, 65536, 1 << 20, (1 << 20) + 512, 3 << 20, (4 << 20) - 512))
    size = min(draw.choice((512, 4096, 65536, 1 << 20)), (4 << 20) - offset)
    return "human-monitor-command", {"command-line": f'qemu-io {node} "{kind} {offset} {size}"'}


def _bitmap(draw: random.Random) -> Step:
    verb = draw.choice(("add", "add", "add", "remove", "clear", "enable", "disable", "merge"))
    node = draw.choice(("q", "q", "q", "s", "top", "e", "z", "nope"))
    if verb == "merge":
        sources = [draw.choice(BITMAPS) if draw.random() < 0.7 else {"node": draw.choice(("q", "s")),
                   "name": draw.choice(BITMAPS)} for _ in range(draw.randint(1, 2))]  # fmt: skip
        return "block-dirty-bitmap-merge", {"node": node, "target": draw.choice(BITMAPS), "bitmaps": sources}
    given = {"node": node, "name": draw.choice(BITMAPS)}
    if verb == "add":
        given |= some(draw, granularity=_GRANULARITY, persistent=(None, None, True, False),
                       disabled=(None, None, True, False))  # fmt: skip
    return f"block-dirty-bitmap-{verb}", given


def _snapshot(draw: random.Random) -> Step:
    kind = draw.choice(("sync", "sync", "blockdev", "internal", "internal", "delete", "delete"))
    node = draw.choice(("top", "q", "s", "e", "mid", "nope"))
    if kind == "sync":
        more = some(draw, snapshot_node_name=(None, "n", "n", "m"), format=(None, None, "qcow2", "raw", "qed"),
                     mode=(None, None, None, "existing", "absolute-paths"))  # fmt: skip
        file = draw.choice(("@DIR@/n.qcow2", "@DIR@/m.qcow2", "@DIR@/o.qcow2", "@DIR@/no/dir"))
        return "blockdev-snapshot-sync", {"node-name": node, "snapshot-file": file, **more}
    if kind == "blockdev":
        return "blockdev-snapshot", {"node": node, "overlay": draw.choice(("e", "ov", "top", "q", "nope", "s"))}
    if kind == "internal":
        return "blockdev-snapshot-internal-sync", {"device": node, "name": draw.choice(("i0", "i1", ""))}
    given = {"device": node, **some(draw, name=(None, "i0", "i0", "i1"), id=(None, None, "1", "2"))}
    return "blockdev-snapshot-delete-internal-sync", given


def _machine_snapshot(draw: random.Random) -> Step:
    verb = draw.choice(("save", "load", "delete"))
    if draw.random() < 0.5:
        tag = draw.choice(("t0", "t1"))
        line = {"save": f"savevm {tag}", "load": f"loadvm {tag}", "delete": f"delvm {tag}"}[verb]
        return "human-monitor-command", {"command-line": draw.choice((line, line, "info snapshots"))}
    given: dict[str, Any] = {"job-id": draw.choice(IDS), "tag": draw.choice(("t0", "t1")),
                             "devices": draw.choice((["q"], ["e"], ["q", "e"], ["s"], ["nope"]))}  # fmt: skip
    if verb != "delete":
        given["vmstate"] = draw.choice(("q", "e", "s", "nope"))
    return f"snapshot-{verb}", given


def _node_change(draw: random.Random) -> Step:
    kind = draw.choice(("del", "del", "add", "resize", "overlay"))
    if kind == "del":
        return "blockdev-del", {"node-name": draw.choice(("q", "s", "t", "e", "top", "mid", "n", "ov", "dm", "flt"))}
    if kind == "add":
        name = draw.choice(("s", "t", "q", "e"))
        driver = "raw" if name in _RAW else "qcow2"
        file = {"driver": "file", "filename": f"@DIR@/{name}.{driver}"}
        return "blockdev-add", {"driver": driver, "node-name": name, "file": file,
                                **some(draw, read_only=(None, None, True))}  # fmt: skip
    if kind == "overlay":
        return "blockdev-add", {"driver": "qcow2", "node-name": "ov", "backing": None,
                                "file": {"driver": "file", "filename": "@DIR@/o.qcow2"}}  # fmt: skip
    size = draw.choice((2 << 20, 8 << 20, 0))
    return "block_resize", {"node-name": draw.choice(("q", "s", "t", "top")), "size": size}


def _export(draw: random.Random) -> Step:
    kind = draw.choice(("start", "start", "stop", "add", "add", "add", "del", "del", "nbd-add", "nbd-remove", "query",
                        "query"))  # fmt: skip
    address = {"type": "unix", "data": {"path": draw.choice(("@DIR@/nbd", "@DIR@/nbd2", "@DIR@/no/nbd"))}}
    node = draw.choice(("q", "s", "t", "top", "e", "nope"))
    name = draw.choice(("x", "y"))
    mode = some(draw, mode=(None, None, "safe", "hard"))
    if kind == "start":
        return "nbd-server-start", {"addr": address, **some(draw, max_connections=(None, None, 0, 1, 10))}
    if kind == "stop":
        return "nbd-server-stop", {}
    if kind == "query":
        return "query-block-exports", {}
    if kind == "nbd-add":
        more = some(draw, name=(None, "x", "y"), writable=(None, None, True, False), bitmap=(None, None, None, "b0"),
                     description=(None, None, "words"))  # fmt: skip
        return "nbd-server-add", {"device": node, **more}
    if kind == "nbd-remove":
        return "nbd-server-remove", {"name": draw.choice((name, node)), **mode}
    if kind == "del":
        return "block-export-del", {"id": draw.choice(("x", "y", node)), **mode}
    more = some(draw, name=(None, None, "x", "y"), writable=(None, True, False),
                 bitmaps=(None, None, ["b0"], ["b0", "b1"]), allocation_depth=(None, None, True),
                 writethrough=(None, None, True, False))  # fmt: skip
    return "block-export-add", {"type": "nbd", "id": name, "node-name": node, **more}


_ACTION_OF = {
    "block-dirty-bitmap-add", "block-dirty-bitmap-remove", "block-dirty-bitmap-clear", "block-dirty-bitmap-disable",
    "block-dirty-bitmap-merge", "blockdev-backup", "drive-backup", "blockdev-snapshot", "blockdev-snapshot-sync",
    "blockdev-snapshot-internal-sync",
}  # fmt: skip


def _transaction(draw: random.Random) -> Step:
    actions: list[dict[str, Any]] = []
    while len(actions) < draw.randint(1, 3):
        name, arguments = draw.choice((_bitmap, _backup, _backup, _snapshot, _drive_job, _abort))(draw)
        # An action that is undone before it is prepared ends real QEMU where it enables a bitmap.
        if name in _ACTION_OF or name == "abort":
            actions.append({"type": name, "data": arguments})
    given: dict[str, Any] = {"actions": actions}
    if draw.random() < 0.3:
        given["properties"] = {"completion-mode": draw.choice(("grouped", "grouped", "individual"))}
    return "transaction", given


def _abort(draw: random.Random) -> Step:
    return "abort", {}


def _sequence(
    *parts: Callable[[random.Random], Step], more: Callable[[random.Random], list[str]] = lambda draw: []
) -> Callable[[random.Random], Scenario]:
    def make(draw: random.Random) -> Scenario:
        options = [*_options(draw), *more(draw)]
        steps = [draw.choice(parts)(draw) for _ in range(draw.randint(4, 12))]
        if draw.random() < 0.15:
            steps.append(("quit", {}))
        return Scenario(options, steps)

    return make


_JOBS = (_stream, _commit, _mirror, _backup)
KINDS: dict[str, Callable[[random.Random], Scenario]] = {
    "faults": _sequence(_mirror, _backup, _stream, _verb, _verb, _verb, _query, _write),
    "human": _sequence(_human_job, _human_job, _human_server, _human_server, _query, _drive_job),
    "fleecing": _sequence(_fleecing, _fleecing, _fleecing, _write, _export, _verb, _query),
    "jobs": _sequence(*_JOBS, _create, _verb, _verb, _verb, _verb, _query, _human_job),
    "files": _sequence(_drive_job, _drive_job, _drive_job, _verb, _verb, _verb, _query, _create, _write),
    "bitmaps": _sequence(_bitmap, _bitmap, _bitmap, _write, _backup, _verb, _query, _node_change),
    "transactions": _sequence(_transaction, _transaction, _bitmap, _write, _verb, _verb, _query),
    "snapshots": _sequence(_snapshot, _snapshot, _machine_snapshot, _query, _write, _node_change, _stream, _commit),
    "exports": _sequence(_export, _export, _export, _bitmap, _node_change, _mirror, _query),
    "graph": _sequence(*graph_steps.STEPS, more=graph_steps.options),
    "all": _sequence(*_JOBS, _drive_job, _verb, _verb, _verb, _bitmap, _write, _transaction, _snapshot, _export,
                     _node_change, _query),
}  # fmt: skip
"""What sequences may be about, and who draws them."""
TOLD = {**KINDS, "names": name_steps.scenario}
"""Those that can be asked for: a kind that is drawn where none is told changes what all seeds draw."""


def drawn(seed: int, kind: str | None = None) -> tuple[str, Scenario]:
    """The sequence of this number, and what it is about: one kind after another where none is told."""
    kind = kind or sorted(KINDS)[seed % len(KINDS)]
    return kind, TOLD[kind](random.Random(seed))

