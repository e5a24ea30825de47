"""Changing the options of nodes that are open: `blockdev-reopen`, and `reopen` of qemu-io.  (QEMU's block.c.)

All nodes that are named together change, or none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from qmpd.block.drive_options import CACHES
from qmpd.block.drivers.formats import Qcow2Content
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.files import DiskFile
from qmpd.block.images.errors import ImageError
from qmpd.block.making import content_of
from qmpd.block.nodes import below
from qmpd.block.opening import apply_common
from qmpd.block.permissions import refresh
from qmpd.block.transactions import refusal_of
from qmpd.common.dictionary_order import in_order
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode, Drive

# What can be changed of a node with these drivers, beside what every node has.
_CHANGEABLE = {
    "raw": frozenset({"offset", "size"}),
    "throttle": frozenset({"throttle-group"}),
    "file": frozenset({"x-check-cache-dropped", "drop-cache"}),
    "qcow2": frozenset({
        "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other", "overlap-check",
        "cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size", "cache-clean-interval", "encrypt",
    }),
    "copy-on-read": frozenset({"bottom"}),
    "preallocate": frozenset({"prealloc-align", "prealloc-size"}),
}  # fmt: skip
_COMMON = (
    "read_only", "auto_read_only", "detect_zeroes", "discard", "direct", "no_flush", "force_share", "options",
    "backing_as_recorded",
)  # fmt: skip


_FLAGS = frozenset({"read-only", "auto-read-only", "force-share", "direct", "no-flush"})


class _Before(NamedTuple):
    """A node as it was."""

    node: BlockNode
    common: dict[str, Any]
    children: dict[str, BlockNode]
    content: Any


class _Change:
    """One change of several nodes."""

    def __init__(self, graph: BlockGraph, *, moves: bool) -> None:
        self._graph = graph
        self._moves = moves
        self._before: list[_Before] = []

    def apply(self, node: BlockNode, options: Mapping[str, Any], *, keep: bool) -> None:
        """Give a node other options; `keep`: those that are not named stay.

        :raise Refusal: one of them cannot be changed.
        """
        self._remember(node)
        node.minds_backing = True
        roles = DRIVERS[node.driver].children
        recorded = node.image.get("full-backing-filename")
        if not keep and "backing" in roles and "backing" not in options and recorded is not None:
            raise MachineError(f"backing is missing for '{node.name}'")
        if options.get("driver", node.driver) != node.driver:
            raise MachineError("Cannot change the option 'driver'")
        if options.get("node-name", node.name) != node.name:
            raise MachineError("Cannot change the option 'node-name'")
        own = {name: value for name, value in options.items() if name not in roles}
        self._check(node, own, keep=keep)
        known = {**_told(node), **own} if keep else own
        apply_common(node, {**known, "driver": node.driver})
        for role in roles:
            if role in options:
                self._child(node, role, options[role], keep=keep)
        for child in node.children.values():
            if child.heir_of == node.name and child.read_only != node.read_only:
                self._remember(child)
                child.read_only = node.read_only

    def _remember(self, node: BlockNode) -> None:
        common = {name: getattr(node, name) for name in _COMMON}
        self._before.append(_Before(node, common, dict(node.children), node.content))

    def _check(self, node: BlockNode, own: Mapping[str, Any], *, keep: bool) -> None:
        """Refuse what cannot be changed."""
        changeable = _CHANGEABLE.get(node.driver, frozenset())
        common = {"driver", "node-name", "read-only", "auto-read-only", "cache", "detect-zeroes", "discard",
                  "force-share"}  # fmt: skip
        for name, value in own.items():
            if name in common or name in changeable or node.options.get(name) == value:
                continue
            raise MachineError(f"Cannot change the option '{name}'")
        if not keep:
            for name in node.options:
                if name not in own and name not in changeable and name not in ("locking", "aio"):
                    raise MachineError(f"Option '{name}' cannot be reset to its default value")

    def _child(self, node: BlockNode, role: str, value: object, *, keep: bool) -> None:
        child = node.children.get(role)
        if isinstance(value, dict):
            if child is None:
                raise MachineError(f"Cannot change the option '{role}'")
            if child.owned:
                # It was there before this node, and does not go by what this node is told.
                first = in_order(tuple(f"{role}.{name}" for name in value))[0] if value else role
                raise MachineError(f"Cannot change the option '{first}'")
            self.apply(child, cast("dict[str, Any]", value), keep=keep)
            return
        if value is None:
            if role != "backing":
                raise MachineError(f"Cannot change the option '{role}'")
            if child is not None:
                self._replace(node, role, None)
            return
        if role not in ("file", "backing") or (role == "file" and not self._moves):
            if child is not None and child.name == value:
                return
            raise MachineError(f"Cannot change the option '{role}'")
        new = self._graph.find_node(str(value))
        if new is child:
            return
        if _reaches(new, node):
            raise Refusal("reopen-cycle", child=new.name, role=role, node=node.name)
        self._replace(node, role, new)

    @staticmethod
    def _replace(node: BlockNode, role: str, new: BlockNode | None) -> None:
        old = node.children.pop(role, None)
        if old is not None:
            old.parents.remove(node)
        if new is not None:
            node.children[role] = new
            new.parents.append(node)
        if role == "backing":
            node.backing_as_recorded = False

    def finish(self) -> None:
        """Have what is in the nodes follow, and see that their users go together.

        :raise Refusal: they do not, or something cannot be opened so.
        """
        for before in reversed(self._before):
            node = before.node
            if node.read_only and not before.common["read_only"]:
                self._check_unused(node)
        self._store_bitmaps()
        # Who becomes writable is opened so before somebody writes.
        for before in self._before:
            if isinstance(before.node.content, DiskFile):
                node = before.node
                before.node.content.reopen(read_only=node.read_only, auto_read_only=node.auto_read_only)
        refresh(each.node for each in self._before)
        for before in reversed(self._before):
            self._follow(before)
        for before in self._before:
            for role, child in before.children.items():
                if before.node.children.get(role) is not child:
                    refresh([child])
                    self._graph.release(child)

    def _store_bitmaps(self) -> None:
        """Store the bitmaps of nodes that become read-only, as long as that can be done."""
        for before in self._before:
            node = before.node
            if not node.bitmaps or not node.read_only or before.common["read_only"]:
                continue
            from qmpd.block.bitmaps import stored

            node.read_only = False
            try:
                stored.make_read_only(node)
            except (ImageError, OSError) as error:
                raise refusal_of(error) from None
            finally:
                node.read_only = True

    def _follow_bitmaps(self, node: BlockNode) -> None:
        """The bitmaps of a node that has become writable are in use."""
        from qmpd.block.bitmaps import stored

        try:
            stored.make_writable(node)
        except (ImageError, OSError) as error:
            # It is writable all the same; its bitmaps are not.
            text = f"{node.name}: Failed to make dirty bitmaps writable: {refusal_of(error)}"
            self._graph.happened.append(("", {"line": text}))

    def _check_unused(self, node: BlockNode) -> None:
        if any(drive.writes for drive in node.drives) or any(
            not parent.read_only and parent.driver == "qcow2" and parent.children.get("backing") is not node
            for parent in node.parents
        ):
            raise MachineError(f"Read-only block node '{node.name}' cannot support read-write users")

    def _follow(self, before: _Before) -> None:
        node, content = before.node, before.node.content
        if isinstance(content, DiskFile):
            return
        changed = before.children.get("file") is not node.children.get("file")
        if isinstance(content, Qcow2Content):
            if changed:
                content.move_to(below(node))
            backing = node.children.get("backing")
            content.set_backing(None if backing is None else backing.port)
            if node.read_only != before.common["read_only"]:
                content.forget(read_only=node.read_only)
                if node.bitmaps and not node.read_only:
                    self._follow_bitmaps(node)
        elif changed or node.options != before.common["options"]:
            try:
                node.content = content_of(node, self._graph)
            except ImageError as error:
                raise MachineError(error.message) from None

    def undo(self) -> None:
        """Have all nodes as they were."""
        for before in reversed(self._before):
            node = before.node
            for name, value in before.common.items():
                setattr(node, name, value)
            for role in {*node.children, *before.children}:
                if node.children.get(role) is not before.children.get(role):
                    self._replace(node, role, before.children.get(role))
            node.backing_as_recorded = before.common["backing_as_recorded"]
            node.content = before.content
            if isinstance(node.content, DiskFile):
                node.content.reopen(read_only=node.read_only, auto_read_only=node.auto_read_only)
        refresh(each.node for each in self._before)


def _reaches(node: BlockNode, other: BlockNode) -> bool:
    return node is other or any(_reaches(child, other) for child in node.children.values())


def _told(node: BlockNode) -> dict[str, Any]:
    """The options that a node has now."""
    return {
        "read-only": node.read_only, "auto-read-only": node.auto_read_only, "detect-zeroes": node.detect_zeroes,
        "discard": node.discard, "cache": {"direct": node.direct, "no-flush": node.no_flush},
        "force-share": node.force_share, **node.options,
    }  # fmt: skip


def reopen(
    graph: BlockGraph, changes: Iterable[tuple[BlockNode, Mapping[str, Any]]], *, keep: bool = False, moves: bool = True
) -> None:
    """Give nodes other options; what is not named is as it would be in `blockdev-add`, or stays where `keep`.

    `moves`: what a node is in may be another node then.

    :raise Refusal: one of them cannot be changed so; all are as before.
    """
    if graph.executor is not None:
        graph.executor.settle()
    change = _Change(graph, moves=moves)
    try:
        for node, options in changes:
            change.apply(node, options, keep=keep)
        change.finish()
    except Refusal:
        change.undo()
        raise


def reopen_by_hand(graph: BlockGraph, node: BlockNode, drive: Drive | None, options: Mapping[str, str]) -> None:
    """`reopen` of qemu-io, with its options by their letters.

    :raise Refusal: it cannot be done.
    """
    from qmpd.block.filenames import nested

    given: dict[str, Any] = {}
    for pair in options.get("o", "").split(",") if options.get("o") else ():
        name, equals, value = pair.partition("=")
        value = value if equals else "on"
        is_flag = name.rpartition(".")[2] in _FLAGS
        given[name] = {"on": True, "off": False}.get(value, value) if is_flag else value
    tree = nested(given)
    if "r" in options and "w" in options:
        raise MachineError("Only one -r/-c/-w option can be given")
    if "r" in options or "w" in options:
        if "read-only" in tree:
            raise MachineError("Cannot set both -r/-w and 'read-only'")
        tree["read-only"] = "r" in options
    if "c" in options:
        mode = CACHES.get(options["c"])
        if mode is None:
            raise MachineError(f"Invalid cache option: {options['c']}")
        if "cache" in tree:
            raise MachineError("Cannot set both -c and the cache options")
        if drive is not None and drive.device is not None and drive.writeback != mode[2]:
            raise MachineError("Cannot change cache.writeback: Device attached")
        tree["cache"] = {"direct": mode[0], "no-flush": mode[1]}
    reopen(graph, [(node, tree)], keep=True)
