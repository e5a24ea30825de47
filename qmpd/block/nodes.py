"""What the block graph consists of: nodes that hold each other, and the drives of the devices that use them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qmpd.block.drivers.table import DRIVERS
from qmpd.block.files import ALL, GRAPH, READ, RESIZE, UNCHANGED, WRITE
from qmpd.block.values import group
from qmpd.common.dictionary_order import in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from qmpd.block.accounting import Accounting
    from qmpd.block.bitmaps.bitmap import DirtyBitmap
    from qmpd.block.content import Content
    from qmpd.hardware.buses import Device

SECTOR = 512
NAMELESS = ("mirror_top", "commit_top")
"""Filters that go by the name of what they are on: only jobs put them there."""
# Those that a job may leave there once it is over.
_OF_JOBS = (*NAMELESS, "copy-on-read", "copy-before-write", "backup-top")


@dataclass(slots=True, eq=False)
class BlockNode:
    """A node of the graph: what `blockdev-add` opened.

    `options` are those of its driver, without its children, which are by their role (`file`, `backing`).
    `owned`: `blockdev-del` may delete it; else it goes with the last that holds it.  `image` is what queries tell of a
    format that it has read.  `location` is the name of what a protocol opens, empty where a name does not tell it.
    `highest` is the end of what was ever written, `threshold` where BLOCK_WRITE_THRESHOLD is told; in bytes.
    """

    name: str
    driver: str
    location: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    read_only: bool = False
    auto_read_only: bool = False
    detect_zeroes: str = "off"
    discard: str = "ignore"
    direct: bool = False
    no_flush: bool = False
    force_share: bool = False
    # Whether its format was looked for.
    probed: bool = False
    # Another machine still has it, which will migrate here: nothing is written, and nobody is kept out.
    inactive: bool = False
    # The iothread that it is at work in (`qmpd.block.iothreads`).
    thread: str = ""
    owned: bool = False
    children: dict[str, BlockNode] = field(default_factory=dict)
    parents: list[BlockNode] = field(default_factory=list)
    drives: list[Drive] = field(default_factory=list)
    image: dict[str, Any] = field(default_factory=dict)
    # The node above that it was opened with, where it has its being read-only from there.
    heir_of: str = ""
    # The node whose options have described it: those that are given to that one anew concern this one, too.
    described_by: str = ""
    # Which of `direct` and `no-flush` it was told itself: the others it has from the node that has described it.
    own_cache: frozenset[str] = frozenset()
    # Whether what is behind it was opened by what its image says, and the name of that as it stands in the image.
    backing_as_recorded: bool = False
    # How many jobs need that to stay behind it.
    frozen: int = 0
    recorded_backing: str = ""
    # Whether what is behind it was there when its limits were last looked at.
    minds_backing: bool = True
    # Whether it does more with what is below it than its users ask for (`qmpd.block.permissions`).
    demands: bool = False
    highest: int = 0
    threshold: int = 0
    # Whether what is read from behind it is written into it.
    copy_on_read: bool = False
    # Where its file is that has no name any more: another process that has it open, as `/proc` shows it.
    place: str = ""
    # The newest first.
    bitmaps: list[DirtyBitmap] = field(default_factory=list)
    # Faults that the control socket has asked for.
    faults: list[dict[str, Any]] = field(default_factory=list)
    # Whether it was put there by a job, and nobody gave it a name: it goes by the name of what it is on.
    implicit: bool = False
    # Who is told of each part that is written; in a thread of the disks.
    watchers: list[Callable[[int, int], None]] = field(default_factory=list)
    # What its driver has read before it opened anything, and has no more once the node is open.
    ahead: Any = None
    content: Content | None = None
    # What its users see.
    port: Content | None = None

    def put_child(self, role: str, node: BlockNode) -> None:
        """Have another node as this child, which is the newest then; voters keep their order."""
        if self.driver != "quorum":
            self.children.pop(role, None)
        self.children[role] = node

    @property
    def is_left(self) -> bool:
        """Whether it is a filter that has nothing to pass on any more, and is there for a job that is over."""
        return self.driver in _OF_JOBS and DRIVERS[self.driver].first not in self.children

    @property
    def called(self) -> str:
        """What texts call it by: the id of the drive that it is in, or its own name."""
        return next((drive.name for drive in self.drives if drive.name), self.name)

    @property
    def exact_name(self) -> str:
        """A name that opens it again, with nothing else; empty where there is none."""
        if self.location or not self.children:
            return self.location
        if self.implicit or self.driver in NAMELESS:
            return self.children[DRIVERS[self.driver].first].exact_name
        if self.driver == "blkdebug":
            below = self.children["image"].exact_name
            given = set(self.options) - {"config"}
            return f"blkdebug:{self.options.get('config', '')}:{below}" if below and not given else ""
        if self.driver == "blkverify":
            raw, test = self.children["raw"].exact_name, self.children["test"].exact_name
            return f"blkverify:{raw}:{test}" if raw and test else ""
        driver, file = DRIVERS[self.driver], self.children.get("file")
        if driver.is_filter or file is None or not DRIVERS[file.driver].is_protocol or self._has_other_backing:
            return ""
        return "" if any(name in self.options for name in driver.strong) or self._key else file.exact_name

    @property
    def _key(self) -> dict[str, Any]:
        """Which secret opens a qcow2 image, as an option of its own; empty where none does."""
        key = group(self.options, "encrypt").get("key-secret")
        return {"encrypt.key-secret": key} if key is not None else {}

    @property
    def _has_other_backing(self) -> bool:
        """Whether something else is behind it than what its image says."""
        backing = self.children.get("backing")
        if backing is not None and self.backing_as_recorded:
            return False
        # A name in an image that is relative is another one.
        return bool(self.recorded_backing) if backing is None else backing.exact_name != (self.recorded_backing or None)

    @property
    def full_options(self) -> dict[str, Any]:
        """The options that would open it again."""
        driver = DRIVERS[self.driver]
        if self.implicit:
            return self.children[driver.first].full_options
        if self.driver in NAMELESS:
            return {"driver": self.driver, "backing": self.children["backing"].full_options}
        found: dict[str, Any] = {}
        for name in driver.strong:
            found |= _flat(name, self.options.get(name), within=bool(self.described_by))
        found |= self._key
        found["driver"] = self.driver
        if self.driver == "quorum":
            found["children"] = [child.full_options for child in self.children.values()]
            return found
        for name, child in self.children.items():
            if name != "backing":
                found[name] = child.full_options
        if self.driver in ("qcow2", "qed") and self._has_other_backing:
            backing = self.children.get("backing")
            found["backing"] = None if backing is None else backing.full_options
        return found

    @property
    def size(self) -> int:
        """How large it is, in bytes."""
        return 0 if self.content is None else self.content.size

    @property
    def allocated(self) -> int | None:
        """How many bytes of the host's disk it takes; None where nobody can tell."""
        return None if self.content is None else self.content.allocated

    @property
    def virtual_size(self) -> int:
        """Its size in whole sectors, as queries tell it."""
        return (self.size + SECTOR - 1) // SECTOR * SECTOR


def _flat(name: str, value: Any, *, within: bool) -> dict[str, Any]:
    """An option as it is told: lists and objects with dots in their members' names.

    `within`: the node was described in the options of another.
    """
    if isinstance(value, (dict, list)):
        # From the end of QEMU's own dictionary: it is copied twice, once more within another node's options, and of two
        # in one bucket the newest comes first.
        found: Any = value
        step = 1 if within else -1
        names = in_order(tuple(value))[::step] if isinstance(value, dict) else range(len(value))
        members = [_flat(f"{name}.{member}", found[member], within=within) for member in names]
        return {key: each for member in members for key, each in member.items()}
    return {} if value is None else {name: value}


_numbers = itertools.count()


def count_drives(numbers: Iterable[int]) -> None:
    """There are drives of these numbers, which come from another process: all others come after them."""
    global _numbers
    _numbers = itertools.count(max(next(_numbers), *(number + 1 for number in numbers), 0))


@dataclass(slots=True, eq=False)
class Drive:
    """What a device (or nobody yet) sees of the graph: QEMU's BlockBackend.

    `name` is the drive's id, empty for one that a device made for itself; `label` is how texts call who uses it.
    `writes` and `shares`: the device writes, and lets others write.  `options_id` is the id of the options that it was
    made of, after `drive_del` has taken its name.  `stays`: it uses this very node, whatever comes to be above it.
    """

    name: str
    device: Device | None = None
    label: str = ""
    # What it is for, and the bus and the unit there; None for one that no option has made.
    place: tuple[str, int, int] | None = None
    node: BlockNode | None = None
    writes: bool = False
    shares: bool = False
    resizes: bool = False
    tray_open: bool = False
    locked: bool = False
    qdev: str = ""
    removable: bool = False
    has_tray: bool = False
    # Whether there is something in it that no node stands for.
    unmodelled: bool = False
    # What queries tell of the limits that it was given; None without any.
    limits: dict[str, Any] | None = None
    options_id: str = ""
    stays: bool = False
    # Whether it wrote before it was told by hand to write no more.
    wrote: bool = False
    # What the node is to who uses it.
    role: str = "root"
    # Whether it is a job's own hold on its node, and nobody's disk.
    is_job: bool = False
    # Whether others may do all, as its machine came here and has not run since.
    is_open: bool = False
    # How many came before it.
    number: int = field(default_factory=lambda: next(_numbers))
    # What it lets others do, where that is not what devices do.
    allowed: int | None = None
    # What it does itself, where that is not what devices do.
    doing: int | None = None
    # Whether the medium before was read-only, which the next one then is too; None where there was none.
    was_read_only: bool | None = None
    # What becomes of errors, and what became of the last one: `ok`, `failed`, `nospace`.
    werror: str = "auto"
    rerror: str = "auto"
    io_status: str = "ok"
    # Whether it confirms writes before they survive.
    writeback: bool = True
    # Whether firmware drives it, which knows of no such cache.
    by_firmware: bool = False
    # The account of what was done (QAPI BlockDeviceStats), and when the last of it was; None before the first.
    statistics: dict[str, int] = field(default_factory=dict)
    last_access: int | None = None
    # How that is kept; None where nothing was said of it.
    accounting: Accounting | None = None
    # By kind of request (`rd`, `wr`, ...) the boundaries of latencies, in nanoseconds, and how many were between them.
    histograms: dict[str, list[list[int]]] = field(default_factory=dict)
    # What is to be done when what is in it is taken out.
    leaving: list[Callable[[], None]] = field(default_factory=list)
    # Requests that have failed, and are tried again when the machine goes on: kind, offset, length, pattern.
    waiting: list[tuple[str, int, int, int]] = field(default_factory=list)

    @property
    def caches(self) -> bool:
        """Whether it confirms writes before they survive, as whatever drives it lets it."""
        return self.writeback and not self.by_firmware

    @property
    def _waits(self) -> bool:
        return self.device is not None and self.node is not None and self.node.inactive

    @property
    def keeps_active(self) -> bool:
        """Whether its node cannot become another machine's, as long as it is there."""
        return False

    @property
    def does(self) -> int:
        """What it does with its node (`qmpd.block.files.READ` and its like)."""
        if self.doing is not None:
            return self.doing & ALL
        if self._waits:
            return 0
        if self.device is None and not self.label:
            # A drive that no device has yet reads, and lets others do all; who asks to write for a while may.
            is_drive = bool(self.name or self.options_id)
            return (READ if is_drive else 0) | (WRITE if self.writes else 0) | (RESIZE if self.resizes else 0)
        return READ | (WRITE if self.writes else 0)

    @property
    def changes_graph(self) -> tuple[bool, bool]:
        """Whether it changes the graph, where releases know of that, and whether it lets others."""
        shares = self.allowed is None or self.allowed == ALL or bool(self.allowed & GRAPH)
        return bool((self.doing or 0) & GRAPH), shares

    @property
    def allows(self) -> int:
        """What it lets others do."""
        if self.allowed is not None:
            return self.allowed & ALL
        if self._waits or self.is_open or (self.device is None and not self.label):
            return ALL
        return READ | UNCHANGED | RESIZE | (WRITE if self.shares else 0)


def locations(node: BlockNode) -> Iterator[str]:
    """The names of the files that a node is in, and those below it."""
    if node.location:
        yield node.location
    for child in node.children.values():
        yield from locations(child)


def below(node: BlockNode, role: str | None = None) -> Content:
    """What is in a node's child: in the one whose bytes are its own, where no role is named."""
    port = node.children[role or DRIVERS[node.driver].first].port
    assert port is not None
    return port
