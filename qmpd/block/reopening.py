"""Changing the options of nodes that are open: `blockdev-reopen`, and `reopen` of qemu-io.  (QEMU's block.c.)

All nodes that are named together change, or none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.block import iothreads
from qmpd.block.drive_options import CACHES
from qmpd.block.drivers.formats import Layered
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.files import WRITE, DiskFile
from qmpd.block.flat import Flat
from qmpd.block.flat_options import Undeclared, structured
from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2.header import Header
from qmpd.block.images.qcow2.options import check_options
from qmpd.block.making import content_of
from qmpd.block.nodes import below
from qmpd.block.opening import apply_common, check_zeroes
from qmpd.block.option_rules import check_choices, check_values
from qmpd.block.permissions import check_writable, refresh
from qmpd.block.placing import reaches
from qmpd.block.transactions import refusal_of
from qmpd.block.values import group
from qmpd.common.dictionary_order import in_order
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qmpd.block.flat_options import Declared
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
# What every node takes.
_EVERYBODYS = frozenset({"read-only", "auto-read-only", "cache", "detect-zeroes", "discard"})
# Drivers whose options cannot be given anew, and those of nodes that jobs make for themselves.
_NEVER = frozenset({"blkverify", "quorum", "copy-on-read", "compress", "copy-before-write", "blklogwrites"})
_IMPLICIT = frozenset({"mirror_top", "commit_top"})
_COMMON = (
    "read_only", "auto_read_only", "detect_zeroes", "discard", "direct", "no_flush", "force_share", "options",
    "backing_as_recorded", "own_cache",
)  # fmt: skip


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
        if node.driver in _NEVER:
            raise Refusal("reopen-unsupported", driver=node.driver, node=node.name)
        roles = DRIVERS[node.driver].children
        own = {name: value for name, value in options.items() if name not in roles}
        self._check_reset(node, own, keep=keep)
        header = getattr(node.content, "header", None)
        if isinstance(header, Header):
            check_options(header, own)
            _check_encryption(header, own)
        has_behind = "backing" in node.children or node.image.get("full-backing-filename") is not None
        if not keep and "backing" in roles and "backing" not in options and has_behind:
            raise MachineError(f"backing is missing for '{node.name}'")
        for role in roles:
            if role in options and not isinstance(options[role], dict):
                self._link(node, role, options[role])
        described = {role: options[role] for role in roles if isinstance(options.get(role), dict)}
        ours = {role: value for role, value in described.items() if _describes(node, role)}
        self._check(node, {**own, **{role: value for role, value in described.items() if role not in ours}})
        known = _kept(node, own) if keep else own
        check_zeroes(known)
        if node.driver == "throttle":
            self._graph.check_group(str(known["throttle-group"]))
        told = own.get("cache") or {}
        own_cache = node.own_cache.union(told) if keep else frozenset(told)
        apply_common(node, {**known, "driver": node.driver})
        node.own_cache = own_cache
        for role, value in ours.items():
            inherited = {} if keep else _inherited(node, role, value)
            self.apply(node.children[role], {**inherited, **value}, keep=keep)
        self._pass_on(node)

    def _pass_on(self, node: BlockNode) -> None:
        """Have those below a node follow it in what they have from it."""
        for child in node.children.values():
            wanted = {}
            if child.heir_of == node.name:
                wanted["read_only"] = node.read_only
            if child.described_by == node.name:
                wanted |= {
                    each: getattr(node, each) for each in ("direct", "no_flush")
                    if each.replace("_", "-") not in child.own_cache
                }  # fmt: skip
            if any(getattr(child, name) != value for name, value in wanted.items()):
                self._remember(child)
                for name, value in wanted.items():
                    setattr(child, name, value)
                self._pass_on(child)

    def _remember(self, node: BlockNode) -> None:
        common = {name: getattr(node, name) for name in _COMMON}
        self._before.append(_Before(node, common, dict(node.children), node.content))

    @staticmethod
    def _check(node: BlockNode, own: Mapping[str, Any]) -> None:
        """Refuse what cannot be changed: of several the one that QEMU's dictionary has first."""
        changeable = _CHANGEABLE.get(node.driver, frozenset())
        same = {
            **node.options, "driver": node.driver, "node-name": node.name, "force-share": node.force_share,
        }  # fmt: skip
        changed = [
            leaf
            for name, value in own.items()
            if name not in _EVERYBODYS and name not in changeable and not (name in same and same[name] == value)
            for leaf in _leaves(name, value)
        ]
        if changed:
            raise MachineError(f"Cannot change the option '{in_order(tuple(changed))[0]}'")

    @staticmethod
    def _check_reset(node: BlockNode, own: Mapping[str, Any], *, keep: bool) -> None:
        """Refuse to leave out what cannot be as it is by default."""
        changeable = _CHANGEABLE.get(node.driver, frozenset())
        for name in () if keep else node.options:
            if name not in own and name not in changeable:
                raise MachineError(f"Option '{name}' cannot be reset to its default value")

    def _link(self, node: BlockNode, role: str, value: object) -> None:
        child = node.children.get(role)
        if child is not None and role == "backing" and value != child.name:
            if child.driver in _IMPLICIT and child.name.startswith("#"):
                raise Refusal("reopen-implicit", role=role, node=node.name)
            if node.frozen:
                raise Refusal("reopen-frozen", role=role, node=node.name, child=child.name)
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
        if reaches(new, node):
            raise Refusal("reopen-cycle", child=new.name, role=role, node=node.name)
        iothreads.join(node, new)
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
            elif before.common["read_only"] and not node.read_only and "file" in node.children:
                check_writable(node.children["file"])
        self._store_bitmaps()
        # Who becomes writable is opened so before somebody writes, and who does not when nobody writes any more.
        self._open_files(read_only=False)
        refresh(each.node for each in self._before)
        self._open_files(read_only=True)
        for before in reversed(self._before):
            self._follow(before)
        for before in self._before:
            for role, child in before.children.items():
                if before.node.children.get(role) is not child:
                    refresh([child])
                    self._graph.release(child)

    def _open_files(self, *, read_only: bool) -> None:
        for before in self._before:
            node = before.node
            if isinstance(node.content, DiskFile) and node.read_only == read_only:
                node.content.reopen(read_only=node.read_only, auto_read_only=node.auto_read_only)

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
        if any(drive.writes or drive.does & WRITE for drive in node.drives) or any(
            parent.driver == "copy-on-read" for parent in node.parents
        ) or any(
            not parent.read_only and parent.driver in ("qcow2", "qed") and parent.children.get("backing") is not node
            for parent in node.parents
        ):
            raise MachineError(f"Read-only block node '{node.name}' cannot support read-write users")

    def _follow(self, before: _Before) -> None:
        node, content = before.node, before.node.content
        if isinstance(content, DiskFile):
            return
        changed = before.children.get("file") is not node.children.get("file")
        if isinstance(content, Layered):
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


def _check_encryption(header: Header, own: Mapping[str, Any]) -> None:
    wanted = group(own, "encrypt").get("format")
    if wanted is not None:
        from qmpd.block.encrypting import check_encryption

        check_encryption(header, wanted)


def _describes(node: BlockNode, role: str) -> bool:
    """Whether a child goes by what a node is told of it."""
    child = node.children.get(role)
    return child is not None and child.described_by == node.name


def _inherited(node: BlockNode, role: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """What a child takes from a node where it is told nothing else."""
    found: dict[str, Any] = {"read-only": True if role == "backing" else node.read_only}
    if role != "backing":
        found |= {"auto-read-only": node.auto_read_only, "discard": "unmap"}
    found["force-share"] = node.force_share
    return found


def _leaves(name: str, value: object) -> list[str]:
    """An option's name, or those of all that are within it."""
    if not isinstance(value, dict) or not value:
        return [name]
    return [leaf for member, inner in value.items() for leaf in _leaves(f"{name}.{member}", inner)]


def _kept(node: BlockNode, own: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a node where only some are given anew."""
    told = _told(node)
    return {**told, **own, "cache": {**told["cache"], **(own.get("cache") or {})}}


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
    except BaseException:
        change.undo()
        raise


def _along(node: BlockNode, told: Flat, declared: Declared) -> dict[str, Any]:
    """Options that are told flat, as the tree of those of a node and of what it has described below it.

    :raise Refusal: one has a value that it cannot have.
    """
    found = structured(told, node.driver, declared)
    tree = {name: value for name, value in found.options.items() if name != "backing" or value is not None}
    check_values(tree)
    check_choices(tree)
    for role, child in tree.items():
        if isinstance(child, Flat) and child.reference is None and _describes(node, role):
            tree[role] = _along(node.children[role], child, declared)
    if "cache" in found.unknown:
        raise MachineError("Cannot change the option 'cache'")
    return {**tree, **{name: told[name] for name in found.unknown}}


def reopen_by_hand(graph: BlockGraph, node: BlockNode, drive: Drive | None, options: Mapping[str, str]) -> None:
    """`reopen` of qemu-io, with its options by their letters.

    :raise Refusal: it cannot be done.
    """
    told: dict[str, Any] = {}
    for pair in options.get("o", "").split(",") if options.get("o") else ():
        name, equals, value = pair.partition("=")
        told[name] = value if equals else "on"
    tree = _along(node, Flat(told), graph.declared or Undeclared())
    if "r" in options and "w" in options:
        raise MachineError("Only one -r/-w option may be given")
    if "r" in options or "w" in options:
        if "read-only" in tree:
            raise MachineError("Cannot set both -r/-w and 'read-only'")
        tree["read-only"] = "r" in options
    mode = None
    if "c" in options:
        mode = CACHES.get(options["c"])
        if mode is None:
            raise MachineError(f"Invalid cache option: {options['c']}")
        if drive is not None and drive.device is not None and drive.caches != mode[2]:
            raise MachineError("Cannot change cache.writeback: Device attached")
        if "cache" in tree:
            raise MachineError("Cannot set both -c and the cache options")
        tree["cache"] = {"direct": mode[0], "no-flush": mode[1]}
    before = (False, False) if drive is None else (drive.writes, drive.wrote)
    if drive is not None and "r" in options:
        drive.writes, drive.wrote = False, drive.writes or drive.wrote
    elif drive is not None and "w" in options:
        drive.writes, drive.wrote = drive.writes or drive.wrote, False
    try:
        reopen(graph, [(node, tree)], keep=True)
    except BaseException:
        if drive is not None:
            drive.writes, drive.wrote = before
        raise
    if mode is not None and drive is not None:
        drive.writeback = mode[2]
