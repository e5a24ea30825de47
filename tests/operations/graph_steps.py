"""Commands about the block graph, drawn at random: nodes and filters, limits, sizes, statistics, what queries tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.operations.drawing import some

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.operations.drawing import Step

NODES = ("base", "mid", "top", "s", "t", "q", "e", "small", "z")
_NEW = ("a", "b", "c")
_GROUPS = ("g0", "g1", "g2")
_PART = "/machine/peripheral/{}/virtio-backend"
_DEVICES = (_PART.format("vd0"), _PART.format("vd0"), _PART.format("vd1"), _PART.format("dv0"), "vd0", "nope")
_DRIVES = ("dr0", "dr1", "new0")


def options(draw: random.Random) -> list[str]:
    """Drives, groups and threads beside the nodes that all sequences have."""
    drive = "if=none,id=dr0,file=@DIR@/o.qcow2,format=qcow2"
    found = ["-object", "throttle-group,id=g0", "-object", "iothread,id=io0"]
    found += ["-drive", drive + draw.choice((
        "", ",cache=none", ",cache=unsafe", ",cache=writethrough", ",cache=directsync", ",detect-zeroes=on",
        ",detect-zeroes=unmap,discard=unmap", ",bps=1000000",
        ",throttling.iops-total=100,throttling.iops-total-max=200,throttling.group=tg", ",werror=stop,rerror=report",
    ))]  # fmt: skip
    if draw.random() < 0.5:
        found += ["-drive", "if=none,id=dr1" + draw.choice(("", ",file=null-co://,format=raw", ",throttling.group=tg,"
                  "throttling.bps-total=500,file=null-co://,format=raw"))]  # fmt: skip
    return found


def _any(draw: random.Random) -> str:
    return draw.choice((*NODES, *_NEW, *_NEW, "nope"))


def _limits(draw: random.Random, separator: str) -> dict[str, Any]:
    names = ("bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write")
    found: dict[str, Any] = {}
    for name in draw.sample(names, draw.randint(1, 2)):
        found[name] = draw.choice((0, 1, 1000, 10**6, 10**15, 10**15 + 1, -1))
        if draw.random() < 0.3:
            found[f"{name}-max"] = draw.choice((0, 1, 2000, 10**7))
        if draw.random() < 0.2:
            found[f"{name}-max-length"] = draw.choice((0, 1, 10))
    if draw.random() < 0.2:
        found["iops-size"] = draw.choice((0, 4096))
    return {name.replace("-", separator): value for name, value in found.items()}


def _group(draw: random.Random) -> Step:
    name = draw.choice(_GROUPS)
    kind = draw.choice(("add", "add", "del", "set", "set", "get", "old"))
    if kind == "add":
        limits = {"limits": _limits(draw, "-")} if draw.random() < 0.7 else {}
        return "object-add", {"qom-type": "throttle-group", "id": name, **limits}
    if kind == "del":
        return "object-del", {"id": name}
    path = f"/objects/{name}"
    if kind == "set":
        return "qom-set", {"path": path, "property": "limits", "value": _limits(draw, "-")}
    if kind == "old":
        # QEMU takes these as limits of a group that nobody has made yet.
        return "qom-get", {"path": path, "property": draw.choice(("x-bps-total", "x-iops-size", "type"))}
    return "qom-get", {"path": path, "property": "limits"}


def _throttle(draw: random.Random) -> Step:
    given = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
    for name, value in _limits(draw, "_").items():
        given[name.replace("_total", "").replace("_read", "_rd").replace("_write", "_wr")] = value
    key = draw.choice(("device", "id"))
    name = draw.choice(_DRIVES if key == "device" else _DEVICES)
    return "block_set_io_throttle", {key: name, **given, **some(draw, group=(None, None, "g0", "tg", "mine"))}


def _histogram(draw: random.Random) -> Step:
    lists: tuple[Any, ...] = ([10, 50, 100], [1], [], [0, 10], [10, 10], [50, 3], [10**18], None, None)
    given = some(draw, boundaries=lists, boundaries_read=(*lists, None, None), boundaries_write=(*lists, None, None),
                 boundaries_flush=(*lists, None, None))  # fmt: skip
    return "block-latency-histogram-set", {"id": draw.choice(_DEVICES), **given}


def _threshold(draw: random.Random) -> Step:
    size = draw.choice((0, 0, 512, 1 << 20, 3 << 20, 1 << 40, -1))
    return "block-set-write-threshold", {"node-name": _any(draw), "write-threshold": size}


def _resize(draw: random.Random) -> Step:
    size = draw.choice((0, 512, 1000, 1 << 20, 2 << 20, 8 << 20, (8 << 20) + 512, -1))
    if draw.random() < 0.3:
        return "block_resize", {"device": draw.choice(_DRIVES), "size": size}
    return "block_resize", {"node-name": _any(draw), "size": size}


def _change_backing(draw: random.Random) -> Step:
    return "change-backing-file", {
        "device": draw.choice(("top", "top", "mid", "q", "s", "dr0", "dr1", "nope")),
        "image-node-name": draw.choice(("top", "top", "mid", "mid", "q", "base", "s", "nope")),
        "backing-file": draw.choice(("@DIR@/base.qcow2", "mid.qcow2", "", "json:{}")),
    }  # fmt: skip


def _common(draw: random.Random) -> dict[str, Any]:
    found = some(draw, read_only=(*[None] * 6, True, False), auto_read_only=(*[None] * 8, True),
                 detect_zeroes=(*[None] * 5, "on", "unmap", "off"), discard=(*[None] * 5, "unmap", "ignore"),
                 force_share=(*[None] * 12, True))  # fmt: skip
    if draw.random() < 0.2:
        found["cache"] = some(draw, direct=(None, True, False), no_flush=(None, True, False))
    return found


def _file(draw: random.Random) -> dict[str, Any]:
    name = draw.choice(("o.qcow2", "q.qcow2", "s.raw", "small.raw", "no"))
    return {"driver": "file", "filename": f"@DIR@/{name}",
            **some(draw, locking=(*[None] * 6, "on", "off", "auto"),
                   aio=(*[None] * 6, "threads", "native"))}  # fmt: skip


def _child(draw: random.Random) -> Any:
    kind = draw.random()
    if kind < 0.75:
        return _any(draw)
    if kind < 0.9:
        return {"driver": "null-co", **some(draw, size=(None, 1 << 20, 4 << 20), read_zeroes=(None, True))}
    return _file(draw)


def _described(draw: random.Random) -> dict[str, Any]:
    """A node with one of the drivers."""
    driver = draw.choice(("throttle", "copy-on-read", "copy-before-write", "blkdebug", "blkverify", "blklogwrites",
                          "preallocate", "quorum", "compress", "raw", "raw", "qcow2", "null-co", "null-aio", "file",
                          "snapshot-access"))  # fmt: skip
    given: dict[str, Any] = {"driver": driver, **_common(draw)}
    sizes = (None, 0, 512, 4096, 1000, 1 << 20)
    if driver == "throttle":
        given |= {"throttle-group": draw.choice(_GROUPS), "file": _child(draw)}
    elif driver == "copy-on-read":
        given |= {"file": _child(draw), **some(draw, bottom=(None, None, "nope"))}
    elif driver == "copy-before-write":
        given |= {"file": _child(draw), "target": _child(draw)}
    elif driver == "blkdebug":
        given |= {"image": _child(draw), **some(draw, align=(None, None, 512, 4096, 1000, 0), max_transfer=(
                  None, None, None, 65536, 1000), opt_write_zero=sizes,
                  max_discard=(None, None, None, 4096))}  # fmt: skip
    elif driver == "blkverify":
        given |= {"raw": _child(draw), "test": _child(draw)}
    elif driver == "blklogwrites":
        given |= {"file": _child(draw), "log": _child(draw), **some(draw, log_sector_size=(None, None, 512, 4096, 100),
                  log_append=(None, None, None, True))}  # fmt: skip
    elif driver == "preallocate":
        given |= {"file": _child(draw), **some(draw, prealloc_align=sizes, prealloc_size=(None, None, 1 << 20))}
    elif driver == "quorum":
        given |= {"children": [_child(draw) for _ in range(draw.randint(1, 3))],
                  "vote-threshold": draw.choice((1, 2, 2, 3, 0)), **some(draw, blkverify=(None, None, None, True),
                  rewrite_corrupted=(None, None, None, True), read_pattern=(None, None, "quorum", "fifo"))}  # fmt: skip
    elif driver == "raw":
        given |= {"file": _child(draw), **some(draw, offset=(*sizes, None, None), size=(*sizes, None, None))}
    elif driver == "qcow2":
        given |= {"file": draw.choice((_file(draw), _any(draw))), **some(draw, backing=(None, None, "base", "mid"),
                  lazy_refcounts=(None, None, None, True), discard_no_unref=(None,) * 9,
                  cache_size=(None, None, None, 1 << 20, 0))}  # fmt: skip
    elif driver == "file":
        given |= _file(draw)
    elif driver == "snapshot-access":
        given |= {"file": _child(draw)}
    else:
        given |= some(draw, size=(None, None, 1 << 20, 1000, 0), read_zeroes=(None, True, False),
                      latency_ns=(*[None] * 5, 1000))  # fmt: skip
    return given


def _add(draw: random.Random) -> Step:
    return "blockdev-add", {**_described(draw), "node-name": draw.choice((*_NEW, *_NEW, "q"))}


def _delete(draw: random.Random) -> Step:
    return "blockdev-del", {"node-name": _any(draw)}


_KNOWN: dict[str, dict[str, Any]] = {
    **{name: {"driver": "qcow2", "file": {"driver": "file", "filename": f"@DIR@/{name}.qcow2"}}
       for name in ("q", "e", "base")},
    **{name: {"driver": "raw", "file": {"driver": "file", "filename": f"@DIR@/{name}.raw"}} for name in ("s", "small")},
    "top": {"driver": "qcow2", "file": {"driver": "file", "filename": "@DIR@/top.qcow2"}, "backing": "mid"},
}  # fmt: skip
"""Nodes that are there from the beginning, as `blockdev-reopen` wants them described."""


def _reopen(draw: random.Random) -> Step:
    if draw.random() < 0.6:
        name = draw.choice(list(_KNOWN))
        given = {**_KNOWN[name], "node-name": name, **_common(draw)}
        if draw.random() < 0.15:
            given["file"] = _child(draw)
        if name == "top" and draw.random() < 0.4:
            given["backing"] = draw.choice(("mid", "base", None, "q", "a"))
    else:
        given = {**_described(draw), "node-name": draw.choice(_NEW)}
    return "blockdev-reopen", {"options": [given]}


def _iothread(draw: random.Random) -> Step:
    return "x-blockdev-set-iothread", {
        "node-name": _any(draw), "iothread": draw.choice(("io0", "io0", None, "nope")),
        **some(draw, force=(None, True)),
    }  # fmt: skip


def _descriptors(draw: random.Random) -> Step:
    kind = draw.choice(("query", "remove", "open"))
    if kind == "query":
        return "query-fdsets", {}
    if kind == "remove":
        return "remove-fd", {"fdset-id": draw.choice((0, 1, -1)), **some(draw, fd=(None, 3))}
    return "blockdev-add", {"driver": "file", "node-name": "a",
                            "filename": draw.choice(("/dev/fdset/1", "/dev/fdset/x", "/dev/fdset/"))}  # fmt: skip


def _query(draw: random.Random) -> Step:
    name = draw.choice(("query-block", "query-named-block-nodes", "query-named-block-nodes", "query-blockstats",
                        "x-debug-query-block-graph"))  # fmt: skip
    if name == "query-named-block-nodes":
        return name, some(draw, flat=(None, True, False))
    if name == "query-blockstats":
        return name, some(draw, query_nodes=(None, True, False))
    return name, {}


def _io(draw: random.Random) -> Step:
    target = draw.choice((*NODES, *_NEW, "dr0", "dr0", "dr1", "-d vd0", f"-d {_PART.format('vd0')}"))
    kind = draw.choice(("write -P 7", "write -z", "write -z -u", "discard", "read", "aio_write -P 7", "aio_read",
                        "flush", "aio_flush", "length", "map", "truncate"))  # fmt: skip
    offset = draw.choice((0, 65536, 1 << 20, (1 << 20) + 512, 3 << 20))
    size = draw.choice((512, 4096, 65536, 1 << 20))
    if kind == "truncate":
        return _line(f'qemu-io {target} "truncate {draw.choice((1 << 20, 8 << 20))}"')
    if kind in ("flush", "aio_flush", "length", "map"):
        return _line(f'qemu-io {target} "{kind}"')
    return _line(f'qemu-io {target} "{kind} {offset} {size}"')


def _line(line: str) -> Step:
    return "human-monitor-command", {"command-line": line}


def _human(draw: random.Random) -> Step:
    node = _any(draw)
    return _line(draw.choice((
        "info block", "info block -n", "info block -v", "info block -n -v", f"info block {node}",
        f"info block -v {node}",
        f"info block -n {node}", "info block dr0", "info block -v dr0", "info blockstats", "info blockstats",
        f"block_resize dr0 {draw.choice((0, 1, 4, 1000, -1))}", f"block_resize {draw.choice(_DRIVES)} 2M",
        f"drive_del {draw.choice((*_DRIVES, *NODES))}", f"drive_del {draw.choice(_DRIVES)}", _drive_add(draw),
        _drive_add(draw), _drive_add(draw), "block_set_io_throttle dr0 1 0 0 2 0 0",
        "block_set_io_throttle dr0 0 0 0 0 0 0",
        "block_set_io_throttle dr0 1 2 0 0 0 0", "block_set_io_throttle no 0 0 0 0 0 0",
    )))  # fmt: skip


def _drive_add(draw: random.Random) -> str:
    words = [f"if={draw.choice(('none', 'none', 'none', 'ide'))}", f"id={draw.choice(('new0', 'new0', 'dr1', 'q'))}"]
    words.append(f"file={draw.choice(('@DIR@/small.raw', '@DIR@/o.qcow2', 'null-co://', '@DIR@/no', 'q'))}")
    for name, values in (
        ("format", ("raw", "raw", "qcow2", "bogus", None)),
        ("cache", ("none", "unsafe", "writeback", "bad", *[None] * 8)),
        ("detect-zeroes", ("on", "unmap", "bad", *[None] * 8)), ("readonly", ("on", "off", *[None] * 4)),
        ("werror", ("stop", "bad", *[None] * 8)), ("bps", ("1000", "-1", *[None] * 8)),
        ("throttling.group", ("tg", *[None] * 8)), ("copy-on-read", ("on", *[None] * 8)),
        ("node-name", ("a", "q", *[None] * 8)), ("file.locking", ("off", "bad", *[None] * 8)),
        ("snapshot", ("on", *[None] * 10)),
    ):  # fmt: skip
        value = draw.choice(values)
        if value is not None:
            words.append(f"{name}={value}")
    return f"drive_add 0 {','.join(words)}"


def _device(draw: random.Random) -> Step:
    name = draw.choice(("dv0", "dv1"))
    return "device_add", {"driver": "virtio-blk-pci", "id": name, "drive": draw.choice((*NODES, *_NEW, *_DRIVES)),
                          **some(draw, share_rw=(*[None] * 3, True), write_cache=(*[None] * 4, "on", "off"),
                                 werror=(*[None] * 5, "stop", "ignore"), iothread=(*[None] * 5, "io0"))}  # fmt: skip


STEPS: tuple[Callable[[random.Random], Step], ...] = (
    _group, _throttle, _histogram, _threshold, _resize, _change_backing, _add, _add, _add, _add, _delete, _reopen,
    _reopen, _iothread, _descriptors, _query, _query, _query, _io, _io, _human, _human, _device,
)  # fmt: skip
"""Who draws a command."""
