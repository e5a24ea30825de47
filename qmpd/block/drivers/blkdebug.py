"""blkdebug: errors at chosen moments, and requests that are held at them.  (QEMU's block/blkdebug.c.)

A moment is an event: the format above tells which of its tables it reads or writes.  A rule of `inject-error` becomes
active with its event, and makes requests fail from then on; one of `set-state` changes the state that rules ask for.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qmpd.block.content import Passing
from qmpd.block.drivers.blkdebug_rules import KINDS, signed, typed
from qmpd.block.images.errors import failure
from qmpd.block.nodes import below
from qmpd.block.values import is_on, text_of
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError
from qmpd.option_language.config_lines import heading, is_ignored, pair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode

_SECTOR = 512
_INT, _LONG = 32, 64
_IOTYPES = ("read", "write", "write-zeroes", "discard", "flush", "block-status")
EVENTS = frozenset({
    "l1_update", "l1_grow_alloc_table", "l1_grow_write_table", "l1_grow_activate_table", "l2_load", "l2_update",
    "l2_update_compressed", "l2_alloc_cow_read", "l2_alloc_write", "read_aio", "read_backing_aio", "read_compressed",
    "write_aio", "write_compressed", "vmstate_load", "vmstate_save", "cow_read", "cow_write", "reftable_load",
    "reftable_grow", "reftable_update", "refblock_load", "refblock_update", "refblock_update_part", "refblock_alloc",
    "refblock_alloc_hookup", "refblock_alloc_write", "refblock_alloc_write_blocks", "refblock_alloc_write_table",
    "refblock_alloc_switch_table", "cluster_alloc", "cluster_alloc_bytes", "cluster_free", "flush_to_os",
    "flush_to_disk", "pwritev_rmw_head", "pwritev_rmw_after_head", "pwritev_rmw_tail", "pwritev_rmw_after_tail",
    "pwritev", "pwritev_zero", "pwritev_done", "empty_image_prepare", "l1_shrink_write_table",
    "l1_shrink_free_l2_clusters", "cor_write", "cluster_alloc_space", "none",
})  # fmt: skip
"""QAPI's BlkdebugEvent."""


@dataclass(slots=True, eq=False)
class _Error:
    event: str = "none"
    state: int = 0
    number: int = errno.EIO
    sector: int = -1
    once: bool = False
    iotype: str | None = None


@dataclass(slots=True, eq=False)
class _State:
    event: str
    state: int
    new_state: int


Rules = tuple[list[_Error], list[_State]]


@dataclass(slots=True, eq=False)
class _Break:
    event: str
    tag: str


class BlkDebug(Passing):
    """A node that fails, or holds requests, where it is told to."""

    def __init__(self, node: BlockNode, graph: BlockGraph) -> None:
        """:raise MachineError: a rule is none."""
        super().__init__(below(node))
        self._graph = graph
        self._state = 1
        self._breaks: list[_Break] = []
        # The requests that are held, by their tags, the oldest first.
        self._held: list[tuple[str, list[bool]]] = []
        ahead: Rules | None = node.ahead
        node.ahead = None
        self._errors, self._states = read_rules(node.options) if ahead is None else ahead
        self._active = [rule for rule in self._errors if rule.event == "none"]

    # Moments

    def event(self, name: str) -> None:
        """The moment of this name has come."""
        state, new_state, held = self._state, self._state, None
        fitting = [rule for rule in self._errors if rule.event == name and rule.state in (0, state)]
        if fitting:
            self._active = fitting[::-1]
        for change in self._states:
            if change.event == name and change.state in (0, state):
                new_state = change.new_state
        for each in list(self._breaks):
            if each.event == name:
                self._breaks.remove(each)
                held = each
        self._state = new_state
        if held is not None:
            self._hold(held.tag)

    def _hold(self, tag: str) -> None:
        going = [False]
        self._held.append((tag, going))
        if self._graph.executor is not None:
            self._graph.executor.wait(lambda: going[0])

    def _fail(self, iotype: str, offset: int, length: int) -> None:
        for rule in self._active:
            hit = rule.sector < 0 or offset <= rule.sector * _SECTOR < offset + length
            kinds = ("read", "write", "write-zeroes", "discard", "flush") if rule.iotype is None else (rule.iotype,)
            if hit and iotype in kinds:
                if rule.once:
                    self._active.remove(rule)
                    if rule in self._errors:
                        self._errors.remove(rule)
                raise failure(rule.number)

    # Breakpoints

    def add_break(self, event: str, tag: str) -> bool:
        """Hold the next request that comes to an event; whether there is such an event."""
        if event not in EVENTS:
            return False
        self._breaks.append(_Break(event, tag))
        return True

    @property
    def is_armed(self) -> bool:
        """Whether requests are to be held, or are."""
        return bool(self._breaks or self._held)

    def is_held(self, tag: str) -> bool:
        """Whether a request is held."""
        return any(each == tag for each, _ in self._held)

    def resume(self, tag: str) -> bool:
        """Let the first request go on that is held with this tag; whether there was one."""
        for each in self._held:
            if each[0] == tag:
                self._held.remove(each)
                each[1][0] = True
                if self._graph.executor is not None:
                    self._graph.executor.stir()
                return True
        return False

    def remove_break(self, tag: str) -> bool:
        """Hold nothing with this tag any more, and let go what is; whether there was something."""
        kept = [each for each in self._breaks if each.tag != tag]
        found = len(kept) != len(self._breaks)
        self._breaks = kept
        while self.resume(tag):
            found = True
        return found

    # Bytes

    def read(self, offset: int, length: int) -> bytes:
        """Read."""
        self._fail("read", offset, length)
        return super().read(offset, length)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write."""
        self.event("pwritev")
        self._fail("write", offset, len(data))
        super().write(offset, data)
        self.event("pwritev_done")

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let them be zeros."""
        self.event("pwritev_zero")
        self._fail("write-zeroes", offset, length)
        super().zero(offset, length, unmap=unmap)
        self.event("pwritev_done")

    def discard(self, offset: int, length: int) -> None:
        """Nobody needs them."""
        self._fail("discard", offset, length)
        super().discard(offset, length)

    def flush(self) -> None:
        """Flush."""
        self.event("flush_to_os")
        self.event("flush_to_disk")
        self._fail("flush", 0, 0)
        super().flush()

    @property
    def allocated(self) -> int | None:
        """QEMU does not tell."""
        return None

    def close(self) -> None:
        """Let go of those that are held."""
        for tag, _ in list(self._held):
            self.resume(tag)


def read_rules(options: Mapping[str, Any]) -> Rules:
    """What is to fail, and what changes the state, by a node's configuration file and its options.

    :raise Refusal: a rule is none, or the file cannot be read.
    """
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in KINDS}
    if options.get("config"):
        from qmpd.block.files import read_text

        for kind, values in _sections(read_text(str(options["config"]))):
            told[kind].append(values)
    for name, rules in told.items():
        rules += _several(options.get(name))
    states = [
        _State(_event(each), signed(each.get("state", 0), _INT), signed(each.get("new_state", 0), _INT))
        for each in told["set-state"]
    ]
    return [_error(each) for each in told["inject-error"]], states


def _error(told: dict[str, Any]) -> _Error:
    rule = _Error(
        _event(told), signed(told.get("state", 0), _INT), signed(told.get("errno", errno.EIO), _INT),
        signed(told.get("sector", -1), _LONG), is_on(told.get("once")), told.get("iotype"),
    )  # fmt: skip
    if rule.iotype is not None and rule.iotype not in _IOTYPES:
        raise Refusal("value-invalid", value=text_of(rule.iotype))
    return rule


def _event(rule: dict[str, Any]) -> str:
    if rule.get("event") is None:
        raise MachineError("Missing event name for rule")
    event = text_of(rule["event"])
    if event not in EVENTS:
        raise Refusal("value-invalid", value=event)
    return event


def _several(rules: Any) -> list[dict[str, Any]]:
    """Rules, which may be one alone."""
    return [rules] if isinstance(rules, dict) else list(rules or ())


def _sections(text: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """The groups of a file of QEMU's options: `[inject-error]` and `name = "value"`.

    :raise Refusal: there is something else in it.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    for line in text.splitlines(keepends=True):
        if is_ignored(line):
            continue
        if (named := heading(line)) is not None:
            if named[0] not in KINDS:
                raise Refusal("group-missing", group=named[0])
            found.append((named[0], {}))
            continue
        name, value = pair(line)
        if not found:
            raise Refusal("config-group-missing")
        kind, values = found[-1]
        values[name] = typed(kind, name, value)
    return found


class Tagged:
    """A part of a format's file: reading and writing it are moments of the node below."""

    __slots__ = ("_below", "_events", "_read", "_write")

    def __init__(self, content: Any, events: BlkDebug, read: str, write: str) -> None:
        self._below = content
        self._events = events
        self._read = read
        self._write = write

    @property
    def size(self) -> int:
        """How many bytes there are."""
        size: int = self._below.size
        return size

    def read(self, offset: int, length: int) -> bytes:
        """Read."""
        self._events.event(self._read)
        data: bytes = self._below.read(offset, length)
        return data

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write."""
        self._events.event(self._write)
        self._below.write(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let them be zeros."""
        self._below.zero(offset, length, unmap=unmap)

    def truncate(self, size: int) -> None:
        """Make it this long."""
        self._below.truncate(size)

    def flush(self) -> None:
        """Flush."""
        self._below.flush()


PARTS = {
    "data": ("read_aio", "write_aio"),
    "mapping": ("l2_load", "l2_update"),
    "refcounts": ("refblock_load", "refblock_update_part"),
}
"""What the parts of a qcow2 image's file are called by events: when they are read, and when written."""
