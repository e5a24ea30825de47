"""An inventory as plain data, for a process that takes the machine over.

Everything that has come into being is taken as it is, rather than how it came about: what was done to a machine has no
bound, what it consists of has.  All of it is in one list, in which one refers to another by its number; so what is used
in two places is one thing again afterwards.  `FIELDS` says what each kind of thing consists of.  A process that knows
these kinds otherwise does not take over (`put`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.block.accounting import Accounting
from qmpd.block.bitmaps.bitmap import DirtyBitmap
from qmpd.block.graph import BlockGraph
from qmpd.block.making import reopen_all
from qmpd.block.nodes import BlockNode, Drive, count_drives
from qmpd.chardev.facts import ChardevFacts
from qmpd.common.hash_table import HashTable
from qmpd.hardware.acpi_slots import AcpiSlots
from qmpd.hardware.backends import Backends
from qmpd.hardware.balloon import Balloon
from qmpd.hardware.buses import Bus, Buses, Device
from qmpd.hardware.devices import Devices
from qmpd.hardware.failover import FailoverPairs
from qmpd.hardware.network import Card, Netdev, Network
from qmpd.hardware.removal import Removal
from qmpd.hardware.user_network import Forward
from qmpd.hardware.user_objects import Objects
from qmpd.qom.node import Node, Property, Shape
from qmpd.qom.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.hardware.inventory import Inventory

    Refer = Callable[[Any], int]
    Find = Callable[[int, type], Any]


class Field(NamedTuple):
    """How a field is made plain (`take`, which is told how to refer to a thing), and what it was before (`put`)."""

    take: Callable[[Any, Refer], Any]
    put: Callable[[Any, Find], Any]


PLAIN = Field(lambda value, refer: value, lambda plain, find: plain)


def one(kind: type) -> Field:
    """A thing of this kind, or None."""
    return Field(
        lambda value, refer: None if value is None else refer(value),
        lambda plain, find: None if plain is None else find(plain, kind),
    )


def many(kind: type) -> Field:
    """A list of things of this kind."""
    return Field(
        lambda value, refer: [refer(each) for each in value],
        lambda plain, find: [find(each, kind) for each in plain],
    )


def named(kind: type) -> Field:
    """Things of this kind by names."""
    return Field(
        lambda value, refer: {name: refer(each) for name, each in value.items()},
        lambda plain, find: {name: find(each, kind) for name, each in plain.items()},
    )


_BY_NODE = Field(
    lambda value, refer: [[refer(device.node), refer(device)] for device in value.values()],
    lambda plain, find: {id(find(node, Node)): find(device, Device) for node, device in plain},
)
_GROUPS = Field(
    lambda value, refer: {name: [(refer(device), path) for device, path in gone] for name, gone in value.items()},
    lambda plain, find: {name: [(find(device, Device), path) for device, path in gone] for name, gone in plain.items()},
)
_LISTS = Field(
    lambda value, refer: {name: [refer(device) for device in devices] for name, devices in value.items()},
    lambda plain, find: {name: [find(device, Device) for device in devices] for name, devices in plain.items()},
)
_PROPERTIES = Field(
    lambda value, refer: None if value is None else [tuple(each) for each in value.values()],
    lambda plain, find: None if plain is None else {each[0]: Property(*each) for each in plain},
)

_FORWARDS = Field(
    lambda value, refer: [list(each) for each in value], lambda plain, find: [Forward(*each) for each in plain]
)
_ACCOUNTING = Field(
    lambda value, refer: None if value is None else value.snapshot(),
    lambda plain, find: None if plain is None else Accounting.restore(plain),
)
_FACTS = Field(
    lambda value, refer: {label: list(facts) for label, facts in value.items()},
    lambda plain, find: {label: ChardevFacts(*facts) for label, facts in plain.items()},
)
# Those that a job has made for itself go with the job.
_BITMAPS = Field(
    lambda value, refer: [each.snapshot() for each in value if each.name is not None or each.purpose],
    lambda plain, find: [DirtyBitmap.restore(each) for each in plain],
)

_OF_JOBS = Field(lambda value, refer: [], lambda plain, find: [])

REFERENCES: dict[type, dict[str, Field]] = {
    Node: {
        "shape": one(Shape), "owner": one(Node), "parent": one(Node), "children": named(Node), "_added": _PROPERTIES,
        "_table": one(HashTable),
    },
    Device: {"node": one(Node), "bus": one(Bus), "buses": many(Bus)},
    Bus: {"node": one(Node), "device": one(Device), "children": many(Device)},
    Buses: {"root": one(Bus), "devices": _BY_NODE},
    Devices: {"buses": one(Buses), "pairs": one(FailoverPairs), "removal": one(Removal), "slots": one(AcpiSlots)},
    Removal: {"_buses": one(Buses), "_gone": _GROUPS, "_slots": one(AcpiSlots)},
    AcpiSlots: {},
    FailoverPairs: {"_buses": one(Buses)},
    Objects: {"_own": named(Node)},
    Balloon: {"device": one(Device)},
    Netdev: {"peer": one(Device), "forwards": _FORWARDS},
    Card: {"device": one(Device), "netdev": one(Netdev)},
    Network: {"netdevs": many(Netdev), "cards": many(Card)},
    Drive: {"device": one(Device), "node": one(BlockNode), "accounting": _ACCOUNTING},
    BlockNode: {
        "children": named(BlockNode), "parents": many(BlockNode), "drives": many(Drive), "bitmaps": _BITMAPS,
        "watchers": _OF_JOBS,
    },
    BlockGraph: {"nodes": named(BlockNode), "drives": many(Drive)},
    Backends: {
        "network": one(Network), "block": one(BlockGraph), "_chardev_users": _LISTS, "_singles": named(Device),
        "_object_users": named(Device), "open_ports": many(Device), "chardevs": _FACTS,
    },
}  # fmt: skip
"""The kinds of things, and those attributes that refer to other things; what their other attributes are is plain."""

CONTEXT = frozenset({
    "_backends", "_builder", "_driver_types", "_home", "_network_kinds", "_reader", "_rules", "_texts", "_tree",
    "_types", "again", "ahead", "await_limits", "blockers", "complain", "computer", "content", "end_machine",
    "executor", "happened", "declared", "find_object", "json_parser", "open_set", "port", "reader", "report", "servers",
})  # fmt: skip
"""The attributes that a thing is given by the inventory that it is in, whichever process that is in."""

FIELDS: dict[type, dict[str, Field]] = {
    kind: {name: references.get(name, PLAIN) for name in kind.__slots__ if name not in CONTEXT}  # type: ignore[attr-defined]
    for kind, references in REFERENCES.items()
}
"""What each kind of thing consists of."""

# Made by a method of their own.
_MADE: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    Shape: (
        lambda shape: [[tuple(each) for each in shape.properties], shape.static],
        lambda plain: Shape(*plain),
    ),
    HashTable: (HashTable.snapshot, HashTable.restore),
}
_KINDS = {kind.__name__: kind for kind in (*FIELDS, *_MADE)}


def _known() -> dict[str, list[str]]:
    """What this process knows of the kinds; the same must be so in the one that takes over."""
    return {kind.__name__: list(fields) for kind, fields in FIELDS.items()}


def take(inventory: Inventory) -> dict[str, Any]:
    """All that the inventory is beside what it is made for: the machine and its release."""
    things: list[Any] = []
    numbers: dict[int, int] = {}

    def refer(thing: Any) -> int:
        number = numbers.get(id(thing))
        if number is None:
            number = numbers[id(thing)] = len(things)
            things.append(thing)
        return number

    parts = inventory.parts()
    state: dict[str, Any] = {"parts": {name: refer(part) for name, part in parts.items() if part is not None}}
    content = []
    # The list grows while it is gone through.
    for thing in things:
        kind = type(thing)
        if kind in _MADE:
            content.append([kind.__name__, _MADE[kind][0](thing)])
        else:
            fields = FIELDS[kind].items()
            content.append([kind.__name__, [field.take(getattr(thing, name), refer) for name, field in fields]])
    return {**state, "known": _known(), "things": content}


def put(inventory: Inventory, state: Mapping[str, Any], *, locked: bool = True) -> None:
    """Make a new inventory what `take` made `state` of; files of disks are `locked` unless it is for practice.

    :raise ValueError: the state is not one that this program's `take` makes.
    """
    if state["known"] != _known():
        raise ValueError("the parts of a machine are described in another way")
    things: list[Any] = []
    for name, plain in state["things"]:
        kind = _KINDS.get(name)
        if kind is None:
            raise ValueError(f"there is no {name} in a machine")
        things.append(_MADE[kind][1](plain) if kind in _MADE else object.__new__(kind))

    def find(number: int, kind: type) -> Any:
        thing = things[number] if 0 <= number < len(things) else None
        if type(thing) is not kind:
            raise ValueError(f"number {number} is no {kind.__name__}")
        return thing

    for thing, (_, plain) in zip(things, state["things"], strict=True):
        for (name, field), value in zip(FIELDS.get(type(thing), {}).items(), plain, strict=type(thing) in FIELDS):
            setattr(thing, name, field.put(value, find))
    numbers = state["parts"]
    parts = {name: find(numbers[name], kind) for name, kind in PARTS.items() if name in numbers}
    root = parts.get("root")
    tree = None if root is None else inventory.around(root)
    reader = None if tree is None else Reader(tree, parts["backends"], inventory.texts, inventory.rules)
    context = {
        "ahead": None, "content": None, "find_object": None, "json_parser": "classic", "open_set": None, "port": None,
        "declared": inventory.backends.block.declared, "again": None, "blockers": None, "executor": None,
        "servers": inventory.backends.block.servers,
        "await_limits": None, "complain": None, "end_machine": None, "happened": deque(), "report": None,
        "_backends": parts["backends"], "_builder": inventory.builder, "_home": inventory, "_reader": reader,
        "_driver_types": inventory.driver_types(),
        "_rules": inventory.rules, "_texts": inventory.texts, "_tree": tree, "_types": inventory.types,
        "_network_kinds": inventory.network_kinds, "computer": inventory.computer, "reader": reader,
    }  # fmt: skip
    for thing in things:
        for name in CONTEXT.intersection(type(thing).__slots__):
            setattr(thing, name, context[name])
    count_drives([each.number for each in things if isinstance(each, Drive)])
    inventory.take_over(tree, parts)
    reopen_all(parts["backends"].block, locked=locked)


PARTS: dict[str, type] = {
    "root": Node, "backends": Backends, "devices": Devices, "objects": Objects, "balloon": Balloon,
}  # fmt: skip
"""What an inventory has, and of which kind each is; all but the backends are there when somebody has asked for them."""
