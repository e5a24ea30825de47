"""The block graph: nodes that hold each other, and the drives of the devices that use them.

What a node and a drive look like in queries was captured; here it is known which there are and who uses them.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

from qmpd.block.changes import changing
from qmpd.block.closing import inactivate
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.nodes import SECTOR, BlockNode, Drive
from qmpd.block.pausing import current
from qmpd.block.permissions import check_writable, refresh
from qmpd.block.servers import Servers
from qmpd.common.identifiers import is_identifier
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.block.changes import Blockers
    from qmpd.block.executor import Executor
    from qmpd.block.files import OpenDescriptor
    from qmpd.block.flat_options import Declared
    from qmpd.common.computer import Computer
    from qmpd.common.texts import Texts
    from qmpd.hardware.buses import Device

_LONGEST_NAME = 31
_MOMENT = 0.002  # seconds for which the main loop waits for the disks


class BlockGraph:
    """The nodes and drives of one machine, both in the order in which they came."""

    __slots__ = (
        "_automatic", "_closed", "_inactivated", "_texts", "again", "await_limits", "backing_is_checked", "blockers",
        "complain", "computer", "copies_noted_below", "declared", "demanding", "drives", "end_machine", "executor",
        "find_object", "happened", "inactive", "inactive_children_refused", "json_parser", "nodes", "open_set",
        "report", "servers", "users_zero_as_told",
    )  # fmt: skip

    def __init__(self, texts: Texts, computer: Computer) -> None:
        """`open_set` and `find_object` are asked of what others have: sets of open files, types of objects."""
        self._texts = texts
        self.computer = computer
        # Events that are still to be told: requests are carried out away from the main loop.  Those without a name are
        # lines for standard error (`line`), or something that is to be done there (`then`).
        self.happened: deque[tuple[str, dict[str, Any]]] = deque()
        # Prints a line on standard error, from whatever thread; None where nobody serves the machine.
        self.report: Callable[[str], None] | None = None
        # The same behind the program's name, in the main loop.
        self.complain: Callable[[str], None] | None = None
        # Ends the machine with an exit status, as a driver does that calls exit(); None where nobody serves it.
        self.end_machine: Callable[[int], None] | None = None
        # What drivers' own options are; None where that is not known.
        self.declared: Declared | None = None
        # Waits for the limits of a node (`qmpd.block.requests`); None where nobody reads and writes.
        self.await_limits: Callable[[BlockNode, int, int], bool] | None = None
        # Has the requests tried again that have stopped the machine; None where there were none.
        self.again: Callable[[], None] | None = None
        # Who reads and writes; None until somebody does.
        self.executor: Executor | None = None
        # Who keeps others from changing nodes: the jobs of its machine; None until there were some.
        self.blockers: Blockers | None = None
        self.open_set: OpenDescriptor | None = None
        self.find_object: Callable[[str], str | None] | None = None
        # The rules by which JSON is read (`Behaviour.json_parser`).
        self.json_parser = "classic"
        # Where the bitmap of a copy-before-write node is (`Behaviour.copies_noted_below`).
        self.copies_noted_below = False
        self.demanding: frozenset[str] = frozenset()  # drivers (`qmpd.block.placing.note_demands`)
        # Whether it is refused to have something behind what cannot (`Behaviour.backing_is_checked`).
        self.backing_is_checked = True
        # Whether what is opened belongs to another machine yet, which will migrate here (`-incoming`).
        self.inactive = False
        # Whether an active node is refused an inactive one below it (`Behaviour.inactive_children_refused`).
        self.inactive_children_refused = False
        # Whether the room of zeros stays where the node gives none back (`Behaviour.users_zero_as_told`).
        self.users_zero_as_told = False
        # The servers that nodes are on.
        self.servers = Servers()
        self.nodes: dict[str, BlockNode] = {}
        self.drives: list[Drive] = []
        self._automatic = 0
        self._closed = self._inactivated = False

    def end(self, line: str) -> None:
        """A driver can only end the machine, with this line on standard error; called in whatever thread."""
        if self.report is not None:
            self.report(line)
        end = self.end_machine
        if end is not None:
            self.happened.append(("", {"then": lambda: end(1)}))

    @property
    def texts(self) -> Texts:
        """The texts of refusals."""
        return self._texts

    def check_free(self, node: BlockNode) -> None:
        """Refuse to change a node that a job works on.

        :raise Refusal: one does.
        """
        kind = self.is_busy(node)
        if kind is not None:
            raise Refusal("node-busy-job", node=node.called, type=kind)

    def drain_all(self, times: int = 1) -> None:
        """Have all that is going on end, or pause, for a moment; so many times (`bdrv_drain_all`)."""
        if self.blockers is not None:
            self.blockers.drain_all(times)

    def changed(self, times: int = 1) -> None:
        """The graph changes, so many times: some releases drain all disks for each (`qmpd.block.changes`)."""
        if self.blockers is not None:
            self.blockers.changed(times)

    def changed_as(self, kind: str) -> None:
        """The graph changes as often as it does for this (`Behaviour.job_drains`)."""
        if self.blockers is not None:
            self.blockers.changed_as(kind)

    def drain(self, node: BlockNode) -> None:
        """Have what is going on at a node end, or pause, for a moment."""
        if self.blockers is not None:
            self.blockers.end_drain(self.blockers.begin_drain(node))

    def begin_drain(self, node: BlockNode) -> Any:
        """Have nothing going on at a node until `end_drain` is called with what this gives."""
        return None if self.blockers is None else self.blockers.begin_drain(node)

    def end_drain(self, drain: Any) -> None:
        """Nobody needs that any more."""
        if self.blockers is not None and drain is not None:
            self.blockers.end_drain(drain)

    def is_busy(self, node: BlockNode) -> str | None:
        """The type of the job that works on a node; None where none does."""
        return None if self.blockers is None else self.blockers.blocking(node)

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

    def check_group(self, name: str) -> None:
        """Refuse a throttle group that is not there.

        :raise Refusal: it is not.
        """
        if not self.has_object(name, "throttle-group"):
            raise Refusal("throttle-group-missing", group=name)

    def has_object(self, name: str, kind: str) -> bool:
        """Whether there is an object of this name and type; nobody knows, and it is taken for true, at first."""
        return self.find_object is None or self.find_object(name) == kind

    def add(self, node: BlockNode) -> None:
        """Put a node into the graph, on top of its children.

        :raise Refusal: what it does with them excludes others, or is excluded.
        """
        self.nodes[node.name] = node
        try:
            refresh([node])
        except Refusal:
            self.release(node, always=True)
            raise

    def place(self, node: BlockNode, place: int) -> None:
        """Let a node that was just added be the one of this number; those from there on came after it."""
        later = list(self.nodes)[place:-1]
        for name in later:
            self.nodes[name] = self.nodes.pop(name)

    def set_backing(self, node: BlockNode, child: BlockNode | None) -> None:
        """Have this behind a node from now on, or nothing.

        :raise Refusal: nothing can be behind it, or what it does with it excludes others, or is excluded; it is as
            before then.
        """
        if child is not None and "backing" not in DRIVERS[node.driver].children:
            if self.backing_is_checked:
                self.changed_as("backing-refused")
                raise Refusal("backing-not-taken", driver=node.driver, node=node.name)
            return
        before = node.children.pop("backing", None)
        node.backing_as_recorded = False
        if child is not None and before is not None and self.is_described_within(child, node):
            child.described_by = node.name
        if before is not None:
            before.parents.remove(node)
        if child is not None:
            node.children["backing"] = child
            child.parents.append(node)
        try:
            refresh([node] if before is None else [node, before])
        except Refusal:
            self._undo_backing(node, before)
            raise
        set_behind = getattr(node.content, "set_backing", None)
        if set_behind is not None:
            set_behind(None if child is None else child.port)
        if before is not None:
            self.release(before)

    def is_described_within(self, node: BlockNode, other: BlockNode) -> bool:
        """Whether a node was described by the options of another one, or by those of what that has described."""
        at: BlockNode | None = node
        while at is not None and at is not other:
            at = self.nodes.get(at.described_by)
        return at is other

    def _undo_backing(self, node: BlockNode, before: BlockNode | None) -> None:
        child = node.children.pop("backing", None)
        if child is not None:
            child.parents.remove(node)
            self.release(child)
        if before is not None:
            node.children["backing"] = before
            before.parents.append(node)
        refresh([node])

    def find(self, name: str) -> BlockNode:
        """The node of this name, or what is in the drive of this name.

        :raise MachineError: there is neither.
        """
        return self.look_up(name, name)

    def find_node(self, name: str) -> BlockNode:
        """The node of this name, where no drive is meant.

        :raise MachineError: there is none; QEMU tells of a device all the same.
        """
        node = self.nodes.get(name)
        if node is None:
            raise MachineError(self._texts("device-or-node-missing", device="", node=name))
        return node

    def look_up(self, device: str | None, node: str | None) -> BlockNode:
        """What is in the drive `device`, or else the node `node`.

        :raise MachineError: there is neither.
        """
        drive = self.drive(device or "")
        if drive is not None:
            if drive.node is None:
                raise MachineError(f"Device '{device}' has no medium")
            return drive.node
        found = self.nodes.get(node or "")
        if found is None:
            raise MachineError(self._texts("device-or-node-missing", device=device or "", node=node or ""))
        return found

    def lookup(self, name: str) -> BlockNode | None:
        """The same; None where there is neither."""
        drive = self.drive(name)
        return self.nodes.get(name) if drive is None else drive.node

    def known(self, name: str) -> BlockNode:
        """The node of this name.

        :raise MachineError: there is none.
        """
        if name not in self.nodes:
            raise MachineError(self._texts("node-missing", node=name))
        return self.nodes[name]

    def release(self, node: BlockNode, *, always: bool = False) -> None:
        """Let a node go that nobody holds (or `always`), and what it held."""
        node.owned = node.owned and not always
        if node.owned or node.drives or node.parents or node.frozen or self.nodes.get(node.name) is not node:
            return
        del self.nodes[node.name]
        with changing(self.blockers):
            self._close(node)
            for child in node.children.values():
                if node in child.parents:
                    child.parents.remove(node)
                self.release(child)
                if child.name in self.nodes:
                    refresh([child])

    def _close(self, node: BlockNode) -> None:
        """Close a node, behind all that is read and written by now."""
        inactivate(node, self.executor, self.complain)
        content, node.content = node.content, None
        if content is None:
            return
        # The main loop itself (a device has left) does not wait for a file to close; a command does, put aside.
        if self.executor is None or (current() is not None and self.executor.settle(_MOMENT)):
            content.close()
        else:
            self.executor.do(content.close, lambda _: None)

    def inactivate(self) -> None:
        """The machine is about to end: have all images write what they still keep.  Once is enough."""
        if self._inactivated:
            return
        self._inactivated = True
        for node in self.newest_first():
            inactivate(node, self.executor, self.complain)
        if self.executor is not None:
            self.executor.settle()

    def close(self, *, orderly: bool = True) -> None:
        """The machine has ended: let go of all files, after `inactivate` where it ends in an `orderly` way.

        Once is enough: what was closed has no file any more.
        """
        if self._closed:
            return
        self._closed = True
        if orderly:
            self.inactivate()
        contents = [node.content for node in self.newest_first() if node.content is not None]

        def close() -> None:
            for content in contents:
                content.close()

        if self.executor is None:
            close()
        else:
            # A file may take its time to be closed; whoever serves the machine waits, but not in the main loop.
            self.executor.do(close, lambda _: None)

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

        :raise Refusal: another device uses the node in a way that excludes this one.
        """
        if (node := drive.node) is not None:
            if drive.writes:
                check_writable(node)
            self._use(drive, node)
            self._read_first(node)
        if drive not in self.drives:
            self.drives.append(drive)

    @staticmethod
    def _read_first(node: BlockNode) -> None:
        """A disk looks at its partition table as it comes, which one sees who counts reads or has them fail."""
        below: BlockNode | None = node
        while below is not None and below.driver != "blkdebug":
            below = below.children.get(DRIVERS[below.driver].first)
        if below is not None and node.port is not None:
            from qmpd.block.images.errors import ImageError

            with contextlib.suppress(OSError, ImageError):
                node.port.read(0, min(SECTOR, node.size))

    def insert(self, drive: Drive, node: BlockNode) -> None:
        """Put a medium into a drive.

        :raise Refusal: another node uses its file in a way that excludes this one.
        """
        drive.node = node
        try:
            self._use(drive, node)
        except Refusal:
            drive.node = None
            raise

    def use(self, drive: Drive) -> None:
        """Somebody who is no device uses a node for a while (`empty` ends it).

        :raise Refusal: others exclude that.
        """
        assert drive.node is not None
        self._use(drive, drive.node)

    def take(self, drive: Drive) -> None:
        """Somebody who is no device uses a node from now on, which jobs see as a change (`leave` ends it).

        :raise Refusal: others exclude that.
        """
        assert drive.node is not None
        self.changed()
        self._use(drive, drive.node)

    def leave(self, drive: Drive) -> None:
        """The same user uses its node no more."""
        if drive.node is not None:
            self.left(drive.node)
        self.empty(drive)

    def left(self, node: BlockNode) -> None:
        """Somebody has used a node for a while: jobs there pause for a moment."""
        if self.blockers is not None:
            self.blockers.left(node)

    def quiet(self, node: BlockNode) -> None:
        """The same, where that does not change the graph any more."""
        if self.blockers is not None:
            self.blockers.quiet(node)

    def _use(self, drive: Drive, node: BlockNode) -> None:
        held = drive in node.drives
        if not held:
            node.drives.append(drive)
        try:
            refresh([node])
        except Refusal:
            if not held:
                node.drives.remove(drive)
                refresh([node])
            raise

    def detach(self, device: Device) -> None:
        """A device is gone, and with it the drive that it made for itself."""
        for drive in [each for each in self.drives if each.device is device]:
            if drive.name and drive.node is not None and self.blockers is not None:
                self.blockers.cancel_on(drive.node)
            self.empty(drive)
            self.drives.remove(drive)

    def empty(self, drive: Drive) -> None:
        """Take the node out of a drive."""
        node, drive.node = drive.node, None
        if node is not None:
            drive.was_read_only = node.read_only
            node.drives.remove(drive)
            self.release(node)
            if node.name in self.nodes:
                refresh([node])
            for each in list(drive.leaving):
                each()

    def newest_first(self) -> Iterator[BlockNode]:
        """The nodes, the newest first."""
        return reversed(self.nodes.values())
