"""Objects that are groups of limits (QEMU's block/throttle-groups.c).

What is set of `limits` is put over what there is; each limit is a property of its own as well, called `x-` and its
name.  (Asked of releases 5.2 to 11.1.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.limits import Limits
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.block.graph import BlockGraph
    from qmpd.qom.node import Node

    Values = Mapping[str, Any]

GROUP = "throttle-group"
"""The type of such an object."""

LIMITS = "limits"
"""The property that has all of them."""

_OWN, _LENGTH = "x-", "-max-length"
_UNSIGNED_32 = (1 << 32) - 1


def check_value(_: str, name: str, value: Any) -> None:
    """Refuse what a limit cannot be.

    :raise Refusal: it cannot.
    """
    if name == LIMITS:
        _check_members(value)
        return
    if name.startswith(_OWN) and value < 0:
        raise Refusal("limits-negative")
    if name.startswith(_OWN) and name.endswith(_LENGTH) and value > _UNSIGNED_32:
        raise Refusal("limits-burst-range", name=name, limit=_UNSIGNED_32)


def _check_members(value: Values) -> None:
    for name, number in value.items():
        if name.endswith(_LENGTH) and type(number) is int and not 0 <= number <= _UNSIGNED_32:
            raise Refusal("limits-length-range", name=name, limit=_UNSIGNED_32)


def check_change(node: Node, name: str, value: Any) -> None:
    """Refuse what a group that works does not take: its limits are set as one.

    :raise Refusal: it does not.
    """
    if name.startswith(_OWN):
        raise Refusal("limits-initialized")
    if name != LIMITS:
        return
    known = node.value(LIMITS)
    for member, number in value.items():
        if member in known and type(number) is not int:
            raise MachineError(f"Invalid parameter type for '{LIMITS}.{member}', expected: integer")
    for member in value:
        if member not in known:
            raise MachineError(f"Parameter '{LIMITS}.{member}' is unexpected")
    check_value(node.type, name, value)
    check_all({LIMITS: {**known, **value}})


def check_all(values: Values) -> None:
    """See whether the limits go together that are set one by one, and as one; what was set later counts.

    :raise Refusal: they do not.
    """
    limits: dict[str, int] = {}
    for name, value in values.items():
        if name == LIMITS:
            limits.update(value)
        elif name.startswith(_OWN):
            limits[name.removeprefix(_OWN)] = value

    def read(unit: str, way: str, part: str) -> int | None:
        return limits.get(f"{unit}-{way}-{part}" if part else f"{unit}-{way}")

    Limits(read, limits.get("iops-size", 0)).check()


def put(node: Node, name: str, value: Any) -> bool:
    """Set a limit or all of them; False where the property is none of these."""
    if name == LIMITS:
        changed = value
    elif name.startswith(_OWN):
        changed = {name.removeprefix(_OWN): value}
    else:
        return False
    node.set_value(LIMITS, {**node.value(LIMITS), **changed})
    for member, number in changed.items():
        node.set_value(f"{_OWN}{member}", number)
    return True


def uses(graph: BlockGraph, name: str) -> bool:
    """Whether a node or a drive has the limits of a group."""
    if any(drive.limits is not None and drive.limits.get("group") == name for drive in graph.drives):
        return True
    nodes = graph.nodes.values()
    return any(each.driver == "throttle" and each.options.get("throttle-group") == name for each in nodes)
