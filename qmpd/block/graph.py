"""The block graph: nodes that hold each other, and the drives of the devices that use them.

No block is ever read or written for a guest: a node knows how large it is and what it is called.  What a node and a
drive look like in queries was captured; here it is known which there are and who uses them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qmpd.common.identifiers import is_identifier
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.common.texts import Texts
    from qmpd.hardware.buses import Device

_LONGEST_NAME = 31
SECTOR = 512
# What users of a node do with it, and what they will not have others do (QEMU's BLK_PERM_*); the names are QEMU's.
_READ, _WRITE, _RESIZE = 1, 2, 8
_PERMISSIONS = {_READ: "consistent read", _WRITE: "write", _RESIZE: "resize"}


@dataclass(slots=True, eq=False)
class BlockNode:
    """A node of the graph: what `blockdev-add` opened.

    `size` and `allocated` are in bytes, None for `allocated` where the driver does not tell.  `children` are by their
    role (`file`, `backing`).  `owned`: `blockdev-del` may delete it; else it goes with the last that holds it.
    `locked_file` tells which file of the host it is that QEMU would lock, `has_metadata` whether the node keeps its own
    account of what is where in the node below.
    """

    name: str
    driver: str
    filename: str
    size: int
    allocated: int | None = None
    read_only: bool = False
    detect_zeroes: str = "off"
    direct: bool = False
    no_flush: bool = False
    owned: bool = False
    has_metadata: bool = False
    locked_file: tuple[int, int] | None = None
    children: dict[str, BlockNode] = field(default_factory=dict)
    parents: list[BlockNode] = field(default_factory=list)
    drives: list[Drive] = field(default_factory=list)
    # What a format says of itself: `cluster-size`, `format-specific`, what is said of the backing file.
    image: dict[str, Any] = field(default_factory=dict)

    @property
    def virtual_size(self) -> int:
        """Its size in whole sectors, as queries tell it."""
        return (self.size + SECTOR - 1) // SECTOR * SECTOR


@dataclass(slots=True, eq=False)
class Drive:
    """What a device (or nobody yet) sees of the graph: QEMU's BlockBackend.

    `name` is the drive's id, empty for one that a device made for itself; `label` is how texts call who uses it.
    `writes` and `shares`: the device writes, and lets others write.  `options_id` is the id of the options that it was
    made of, after `drive_del` has taken its name.
    """

    name: str
    device: Device | None = None
    label: str = ""
    node: BlockNode | None = None
    writes: bool = False
    shares: bool = False
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
    # Whether the medium before was read-only, which the next one then is too; None where there was none.
    was_read_only: bool | None = None


def check_writable(node: BlockNode) -> None:
    """Refuse to write to a node that is read-only, or is on top of one.

    :raise MachineError: it is.
    """
    below: BlockNode | None = node
    while below is not None:
        if below.read_only:
            raise MachineError("Block node is read-only")
        below = below.children.get("file")


class BlockGraph:
    """The nodes and drives of one machine, both in the order in which they came."""

    __slots__ = ("_automatic", "_texts", "drives", "nodes")

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self.nodes: dict[str, BlockNode] = {}
        self.drives: list[Drive] = []
        self._automatic = 0

    @property
    def texts(self) -> Texts:
        """The texts of refusals."""
        return self._texts

    # Nodes

    def new_name(self) -> str:
        """A name for a node that got none: QEMU puts two digits behind a count, that nobody may count on it."""
        number = self._automatic
        self._automatic += 1
        return f"#block{number}{number * 37 % 100:02d}"

    def check_name(self, name: str) -> None:
        """Refuse a name for a new node.

        :raise MachineError: it is none, or is taken.
        """
        if not is_identifier(name):
            raise MachineError(self._texts("node-name", node=name))
        if len(name) > _LONGEST_NAME:
            raise MachineError("Node name too long")
        if self.drive(name) is not None:
            raise MachineError(f"node-name={name} is conflicting with a device id")
        if name in self.nodes:
            raise MachineError(self._texts("node-duplicate", node=name))

    def add(self, node: BlockNode) -> None:
        """Put a node into the graph, on top of its children.

        :raise MachineError: another node has a file of its own in use in a way that excludes this one.
        """
        self.nodes[node.name] = node
        for child in node.children.values():
            child.parents.append(node)
        try:
            self._lock(node)
        except MachineError:
            self.release(node, always=True)
            raise

    def find(self, name: str) -> BlockNode:
        """The node of this name, or what is in the drive of this name.

        :raise MachineError: there is neither.
        """
        node = self.lookup(name)
        if node is None:
            raise MachineError(self._texts("device-or-node-missing", device=name, node=name))
        return node

    def lookup(self, name: str) -> BlockNode | None:
        """The same; None where there is neither."""
        drive = self.drive(name)
        return self.nodes.get(name) if drive is None else drive.node

    def remove(self, name: str) -> None:
        """Delete a node (`blockdev-del`).

        :raise MachineError: there is none, it is in use, or it is nobody's to delete.
        """
        node = self.nodes.get(name)
        if node is None:
            raise MachineError(self._texts("node-missing", node=name))
        if node.drives:
            raise MachineError(f"Node {name} is in use")
        for parent in node.parents:
            if parent.children.get("backing") is node:
                raise MachineError(f"Node '{name}' is busy: node is used as backing hd of '{parent.name}'")
        if not node.owned:
            raise MachineError(f"Node {name} is not owned by the monitor")
        if node.parents:
            raise MachineError(f"Block device {name} is in use")
        node.owned = False
        self.release(node)

    def release(self, node: BlockNode, *, always: bool = False) -> None:
        """Let a node go that nobody holds (or `always`), and what it held."""
        if always:
            node.owned = False
        if node.owned or node.drives or node.parents or self.nodes.get(node.name) is not node:
            return
        del self.nodes[node.name]
        for child in node.children.values():
            child.parents.remove(node)
            self.release(child)

    # Drives

    def new_drive_name(self, interface: str) -> str:
        """The name of a drive that got none (`-drive` without an id)."""
        number = sum(each.name.startswith(interface) for each in self.drives)
        if interface == "ide":
            return f"ide{number // 2}-hd{number % 2}"
        return f"{interface}{number}"

    def drive(self, name: str) -> Drive | None:
        """The drive of this id."""
        return next((each for each in self.drives if name and each.name == name), None)

    def of_device(self, device: Device) -> Drive | None:
        """The drive that a device has."""
        return next((each for each in self.drives if each.device is device), None)

    def check(self, name: str, owner: str) -> None:
        """Refuse a node or drive for a device's property.

        :raise MachineError: there is none, or it has a device.
        """
        drive = self.drive(name)
        if drive is not None and drive.device is not None:
            raise MachineError(f"Drive '{name}' is already in use by another device")
        if drive is None and name not in self.nodes:
            raise MachineError(f"Property '{owner}' can't find value '{name}'")

    def attach(self, drive: Drive) -> None:
        """A device has a drive from now on.

        :raise MachineError: another device uses the node in a way that excludes this one.
        """
        node = drive.node
        if node is not None:
            if drive.writes:
                check_writable(node)
            held = drive in node.drives
            for other in reversed(node.drives):
                if other is not drive:
                    self._conflict(node, drive, other)
            if not held:
                node.drives.append(drive)
            try:
                self._lock(node)
            except MachineError:
                if not held:
                    node.drives.remove(drive)
                raise
        if drive not in self.drives:
            self.drives.append(drive)

    def insert(self, drive: Drive, node: BlockNode) -> None:
        """Put a medium into a drive.

        :raise MachineError: another node uses its file in a way that excludes this one.
        """
        drive.node = node
        node.drives.append(drive)
        try:
            self._lock(node)
        except MachineError:
            node.drives.remove(drive)
            drive.node = None
            raise

    def _lock(self, node: BlockNode) -> None:
        """Refuse what QEMU's locks on files would: two nodes that have one file, of which one writes.

        :raise MachineError: the text says which permission cannot be had.
        """
        for child in node.children.values():
            self._lock(child)
        if node.locked_file is None:
            return
        does, excludes = self._use(node)
        others = [
            self._use(other)
            for other in self.nodes.values()
            if other is not node and other.locked_file == node.locked_file
        ]
        for permission, name in _PERMISSIONS.items():
            if does & permission and any(excluded & permission for _, excluded in others):
                raise MachineError(f'Failed to get "{name}" lock')
        for permission, name in _PERMISSIONS.items():
            if excludes & permission and any(done & permission for done, _ in others):
                raise MachineError(f'Failed to get shared "{name}" lock')

    def _use(self, node: BlockNode) -> tuple[int, int]:
        """What those above a node do with it, and what they will not have done (block.c, bdrv_default_perms)."""
        does = excludes = 0
        for drive in node.drives:
            does |= _READ | (_WRITE if drive.writes else 0)
            excludes |= 0 if drive.writes and drive.shares else _WRITE
        for parent in node.parents:
            if parent.children.get("file") is node and parent.has_metadata:
                does |= _READ | (0 if parent.read_only else _WRITE | _RESIZE)
                excludes |= _WRITE | _RESIZE
                continue
            above, excluded = self._use(parent)
            if parent.children.get("file") is node:
                does |= above
                excludes |= excluded
            else:
                does |= above & _READ
                excludes |= _WRITE | _RESIZE if excluded & _WRITE else 0
        return does, excludes

    def _conflict(self, node: BlockNode, drive: Drive, other: Drive) -> None:
        if other.writes and not drive.shares:
            which = "node-conflict" if not other.shares else "node-conflict-shared"
            raise MachineError(self._texts(which, node=node.name, user=other.label, other=drive.label))
        if drive.writes and not other.shares:
            raise MachineError(self._texts("node-conflict", node=node.name, user=drive.label, other=other.label))

    def detach(self, device: Device) -> None:
        """A device is gone, and with it the drive that it made for itself."""
        for drive in [each for each in self.drives if each.device is device]:
            self.empty(drive)
            self.drives.remove(drive)

    def empty(self, drive: Drive) -> None:
        """Take the node out of a drive."""
        node, drive.node = drive.node, None
        if node is not None:
            drive.was_read_only = node.read_only
            node.drives.remove(drive)
            self.release(node)

    def newest_first(self) -> Iterator[BlockNode]:
        """The nodes, the newest first."""
        return reversed(self.nodes.values())
