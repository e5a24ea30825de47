"""Who does what with a node, and what they will not have others do.  (QEMU's block.c, `bdrv_default_perms`.)

What the users of a node do, and share, is passed on to the nodes below it, as each driver needs it; at the files it
becomes locks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qmpd.block.drivers.table import DRIVERS, Role, role_of
from qmpd.block.files import ALL, NAMES, READ, RESIZE, UNCHANGED, WRITE, DiskFile
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qmpd.block.nodes import BlockNode, Drive

    Known = dict[int, tuple[int, int]]


class Use(NamedTuple):
    """What one user does with a node and lets others do; `name` and `kind` (`drive`, `node`, `job`) are for texts."""

    does: int
    shares: int
    name: str
    kind: str
    role: str

    def described(self) -> Refusal:
        """How texts call the user."""
        if self.kind == "job":
            return Refusal("user-job", name=self.name)
        if self.kind == "drive" and not self.name:
            return Refusal("user-unnamed")
        return Refusal("user-node", name=self.name) if self.kind == "node" else Refusal("user-drive", name=self.name)


def uses(node: BlockNode, known: Known | None = None) -> Iterator[Use]:
    """All uses of a node, the newest first; `known` is what all users of nodes do and share, as far as was looked."""
    for drive in reversed(node.drives):
        yield _of_drive(drive)
    for parent in dict.fromkeys(reversed(node.parents)):
        for role, child in parent.children.items():
            if child is node:
                does, shares = _passed_on(parent, role, known)
                called = DRIVERS[parent.driver].spelled.get(role, role)
                yield Use(does, ALL if node.force_share else shares, parent.name, "node", called)


def _of_drive(drive: Drive) -> Use:
    kind = "drive" if drive.role == "root" else "job"
    return Use(drive.does, drive.allows, drive.label or drive.name, kind, drive.role)


def cumulative(node: BlockNode, known: Known | None = None) -> tuple[int, int]:
    """What all users of a node together do, and what all of them share."""
    if known is not None and id(node) in known:
        return known[id(node)]
    does, shares = 0, ALL
    # Each node is looked at once: nodes may have others below them in many ways.
    known = {} if known is None else known
    for use in uses(node, known):
        does |= use.does
        shares &= use.shares
    known[id(node)] = does, shares
    return does, shares


def _passed_on(parent: BlockNode, name: str, known: Known | None) -> tuple[int, int]:
    """What a node does with its child of this name, and shares."""
    does, shares = cumulative(parent, known)
    role = role_of(parent.driver, parent.options, name)
    if parent.driver == "blkdebug":
        does |= _bits(parent.options.get("take-child-perms"))
        return does, (shares | UNCHANGED) & ~_bits(parent.options.get("unshare-child-perms"))
    if role is Role.BACKING:
        return does & READ, READ | UNCHANGED | (WRITE | RESIZE if shares & WRITE else 0)
    if role is Role.COMMITTED:
        return 0, ALL
    if role is Role.COPIED_DOWN:
        return does & ~READ, shares | UNCHANGED | WRITE
    if role is Role.MIRRORED:
        return does & WRITE, ALL
    if role is Role.ASKED:
        return 0, ALL
    if role is Role.TARGET or (role is Role.LATE_TARGET and any(drive.stays for drive in parent.drives)):
        return WRITE, ALL & ~RESIZE
    if role is Role.LATE_TARGET:
        return 0, ALL
    if parent.inactive and role in (Role.METADATA, Role.DATA, Role.ENCRYPTED):
        return does | READ, shares | WRITE | UNCHANGED | RESIZE
    if role is Role.METADATA:
        return does | READ | (0 if parent.read_only else WRITE | RESIZE), (shares | UNCHANGED) & ~(WRITE | RESIZE)
    if role in (Role.DATA, Role.ENCRYPTED):
        does |= READ if role is Role.ENCRYPTED else 0
        grows = does & WRITE and (parent.driver != "raw" or parent.demands)
        return does | (RESIZE if grows else 0), (shares | UNCHANGED) & ~RESIZE
    if role is Role.COPIED:
        return does if parent.inactive else does | UNCHANGED, shares | UNCHANGED
    if role is Role.VOTER:
        return does, READ | UNCHANGED
    if role is Role.WATCHED and (parent.drives or parent.parents):
        reads = parent.demands or does & WRITE
        return does | (READ if reads else 0), (shares | UNCHANGED) & ~(WRITE | RESIZE)
    return does, shares | UNCHANGED


def _bits(names: Iterable[str] | None) -> int:
    """What is done or shared, by the names of QAPI's BlockPermission."""
    by_name = {name.replace(" ", "-"): bit for bit, name in NAMES.items()}
    return sum({by_name.get(name, 0) for name in names or ()})


def _with_below(nodes: Iterable[BlockNode]) -> list[BlockNode]:
    """These nodes and all below them, each behind those that are above it."""
    done: dict[int, BlockNode] = {}
    seen: set[int] = set()
    waiting = [(node, False) for node in nodes]
    while waiting:
        node, is_done = waiting.pop()
        if is_done:
            done[id(node)] = node
        elif id(node) not in seen:
            seen.add(id(node))
            waiting.append((node, True))
            waiting += [(child, False) for child in node.children.values()]
    return list(reversed(done.values()))


def _conflict(node: BlockNode, known: Known, *, is_below: bool) -> Refusal | None:
    """Why two users of a node cannot both have what they want; `is_below`: what is new is done by a node above it."""
    all_uses = list(uses(node, known))
    for number, first in enumerate(all_uses):
        for second in all_uses[number + 1 :]:
            is_later = is_below and (first.kind, second.kind) == ("job", "node")
            newer, older = (second, first) if is_later else (first, second)
            used, unshared = older.does & ~newer.shares, newer.does & ~older.shares
            said = _said(node, older, newer, used) if used else _said(node, newer, older, unshared)
            if used and unshared:
                return Refusal("permission-both", **said)
            if used:
                return Refusal("permission-used", **said)
            if unshared:
                return Refusal("permission-unshared", **said)
    return None


def _unavailable(node: BlockNode, known: Known) -> Refusal | None:
    """Why nobody can use a node as it is used: it is another machine's, or is read-only."""
    if not node.inactive and not node.read_only:
        return None
    changes = cumulative(node, known)[0] & (WRITE | UNCHANGED | RESIZE)
    if node.inactive and changes:
        return Refusal("inactive-permission", permissions=_names(changes))
    return MachineError("Block node is read-only") if node.read_only and changes & ~RESIZE else None


def check_child(parent: BlockNode, name: str, child: BlockNode, *, refused: bool) -> None:
    """Refuse an active node a child that is another machine's, where that is `refused`.

    :raise Refusal: it is.
    """
    if refused and child.inactive and not parent.inactive:
        role = DRIVERS[parent.driver].spelled.get(name, name)
        raise Refusal("inactive-child", child=child.name, role=role, parent=parent.name)


def _said(node: BlockNode, needs: Use, keeps: Use, bits: int) -> dict[str, object]:
    return {
        "node": node.name, "permissions": _names(bits), "user": needs.described(), "role": needs.role,
        "other": keeps.described(), "other_role": keeps.role,
    }  # fmt: skip


def _names(bits: int) -> str:
    return ", ".join(name for bit, name in NAMES.items() if bits & bit)


def check_writable(node: BlockNode) -> None:
    """Refuse to write to a node that is read-only, or is on top of one.

    :raise MachineError: it is.
    """
    below: BlockNode | None = node
    while below is not None:
        if below.read_only:
            raise MachineError("Block node is read-only")
        below = below.children.get("file") or below.children.get("image")


def refresh(nodes: Iterable[BlockNode], *, whatever: bool = False) -> None:
    """See that the uses of these nodes, and of what is below them, go together; lock the files accordingly.

    `whatever` is done with those that are read-only, or another machine's by now.

    :raise Refusal: they do not; the locks are as before.
    """
    roots = list(nodes)
    found = _with_below(roots)
    known: Known = {}
    for node in found:
        conflict = _conflict(node, known, is_below=node not in roots)
        conflict = conflict or (None if whatever else _unavailable(node, known))
        if conflict is not None:
            raise conflict
    for node in found:
        if isinstance(node.content, DiskFile):
            does, shares = cumulative(node, known)
            node.content.lock(does, ALL & ~shares)
            continue
        # What minds whether anybody writes.
        unused = getattr(node.content, "unused", None)
        if unused is not None and not cumulative(node, known)[0] & (WRITE | RESIZE):
            unused()
