"""`json:` names of nodes, drawn at random: right ones, in which something is another value, flat, twice, or missing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.operations.drawing import Scenario

if TYPE_CHECKING:
    import random

    from tests.operations.drawing import Step

_FILES = ("s.raw", "q.qcow2", "top.qcow2", "missing")
_KEYS = (
    "driver", "file", "filename", "cache", "cache.direct", "cache.no-flush", "cache.x", "node-name", "backing",
    "backing.driver", "backing.file", "backing.file.filename", "read-only", "auto-read-only", "force-share", "discard",
    "detect-zeroes", "offset", "size", "file.driver", "file.filename", "file.", ".file", "children", "children.0",
    "vote-threshold", "image", "raw", "test", "target", "bitmap", "log", "encrypt", "encrypt.format", "l2-cache-size",
    "overlap-check", "overlap-check.template", "lazy-refcounts", "inject-error", "inject-error.0.event", "set-state",
    "config", "align", "throttle-group", "data-file", "locking", "aio", "pr-manager", "", ".", "a..b", "x", "0",
)  # fmt: skip
_WORDS = (
    "", "on", "off", "x", "known", "nosuch", "raw", "qcow2", "file", "null-co", "quorum", "blkdebug", "throttle", "g0",
    "1M", "512", "-1", "unmap", "auto", "host_device", "none",
)  # fmt: skip
_NUMBERS = (0, 1, -1, 5, 512, 1 << 63, -(1 << 63), (1 << 64) - 1, 1.5, 1e300)


def scenario(draw: random.Random) -> Scenario:
    """A drive into which media of such names are put, one after another."""
    options = ["-machine", "pc", "-display", "none", "-nodefaults", "-S", "-device", "ide-cd,id=cd"]
    options += ["-object", "throttle-group,id=g0"]
    options += ["-blockdev", '{"driver": "null-co", "node-name": "known", "size": 1048576, "read-zeroes": true}']
    steps: list[Step] = []
    for _ in range(8):
        name = f"json:{json.dumps(_name(draw))}"
        steps += [
            ("blockdev-change-medium", {"id": "cd", "filename": name}), ("query-block", {}),
            ("query-named-block-nodes", {"flat": True}), ("eject", {"id": "cd", "force": True}),
        ]  # fmt: skip
    return Scenario(options, steps)


def _file(draw: random.Random) -> dict[str, Any]:
    return {"driver": "file", "filename": f"@DIR@/{draw.choice(_FILES)}"}


def _node(draw: random.Random, depth: int = 0) -> dict[str, Any]:
    """The options of a node, right ones."""
    file = _file(draw)
    below = _node(draw, depth + 1) if depth < 2 and draw.random() < 0.4 else file
    small = {"driver": "null-co", "size": 1 << 20}
    return draw.choice((
        file, small, {"file": below}, {"filename": file["filename"]}, {"driver": "raw", "file": below},
        {"driver": "raw", "file": below, "size": draw.choice((512, "1k")), "offset": 512},
        {"driver": "qcow2", "file": {"driver": "file", "filename": "@DIR@/top.qcow2"}},
        {"driver": "quorum", "vote-threshold": 1, "children": [below, file]},
        {"driver": "blkdebug", "image": below, "inject-error": [{"event": "read_aio"}]},
        {"driver": "blkverify", "raw": file, "test": below},
        {"driver": "blklogwrites", "file": below, "log": small},
        {"driver": "copy-before-write", "file": below, "target": small},
        {"driver": "throttle", "throttle-group": "g0", "file": below},
        *({"driver": name, "file": below} for name in ("copy-on-read", "preallocate", "compress")),
        {"driver": "nbd", "server": {"type": "unix", "path": "/nonexistent"}, "export": "x"},
    ))  # fmt: skip


def _value(draw: random.Random, depth: int = 0) -> Any:
    """Whatever JSON has."""
    kind = draw.random()
    if depth > 2 or kind < 0.6:
        return draw.choice((None, True, False, *_NUMBERS, *_WORDS, _file(draw)["filename"]))
    if kind < 0.7:
        return draw.choice(([], {}, [[]], [{}], {"x": {}}, {"0": []}))
    if kind < 0.8:
        return [_value(draw, depth + 1) for _ in range(draw.randint(1, 3))]
    return {draw.choice(_KEYS): _value(draw, depth + 1) for _ in range(draw.randint(1, 3))}


def _places(value: Any) -> list[tuple[Any, Any]]:
    """All places in a tree, as what they are in and where in that."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in inner for place in ((value, key), *_places(each))]


def _change(draw: random.Random, whole: dict[str, Any]) -> None:
    if not whole:
        return
    within, key = draw.choice(_places(whole))
    kind = draw.random()
    if kind < 0.45:
        within[key] = _value(draw)
    elif isinstance(within, dict) and kind < 0.85:
        within[draw.choice(_KEYS)] = _value(draw)
    else:
        del within[key]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(each, (dict, list)) and each:
            found |= _flat(each, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = each
    return found


def _name(draw: random.Random) -> Any:
    if draw.random() < 0.1:
        return _value(draw)
    whole = json.loads(json.dumps(_node(draw)))
    for _ in range(draw.choice((0, 1, 1, 1, 2))):
        _change(draw, whole)
    if draw.random() < 0.15:
        leaves = list(_flat(whole).items())
        draw.shuffle(leaves)
        whole = dict(leaves) if draw.random() < 0.5 else {**whole, **dict(leaves[: len(leaves) // 2])}
    return whole
