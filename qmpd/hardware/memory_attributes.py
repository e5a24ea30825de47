"""How fast each node's memory is, and what is cached of it: the table HMAT of ACPI, as `-numa hmat-lb` and
`-numa hmat-cache` fill it (hw/core/numa.c).  All releases say the same of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_LAST_LEVEL = 3
# A table's entries have 16 bits, of which the highest value means something else.
_UNUSABLE = 0xFFFF
_ENTRY_BITS = 16
_MEBIBYTE = 1 << 20
_LATENCY, _BANDWIDTH = "latency", "bandwidth"


class _Table:
    """The entries of one hierarchy and type of data; each is a multiple of what all have in common."""

    __slots__ = ("base", "extent", "pairs")

    def __init__(self) -> None:
        self.base: int | None = None
        # The largest latency in units of the base, or all bits of all bandwidths.
        self.extent = 0
        self.pairs: set[tuple[int, int]] = set()

    def add_latency(self, value: int) -> bool:
        """Take a latency in nanoseconds; gives whether it fits."""
        unit = 1
        while value % (unit * 10) == 0:
            unit *= 10
        # Until there is an entry, all of them are less than the base.
        largest = max(self.extent, 0 if self.base is None else value // self.base)
        if largest >= _UNUSABLE:
            return False
        self.base = unit if self.base is None else min(unit, self.base)
        self.extent = largest
        return True

    def add_bandwidth(self, value: int) -> bool:
        """Take a bandwidth in bytes a second; gives whether it fits."""
        bits = self.extent | value
        unit = bits & -bits
        if (bits // unit).bit_length() > _ENTRY_BITS or value // unit >= _UNUSABLE:
            return False
        self.base, self.extent = unit, bits
        return True


class MemoryAttributes:
    """What is known of the memory of a machine's nodes."""

    def __init__(self) -> None:
        self._tables: dict[tuple[object, object], _Table] = {}
        self._known: set[tuple[int, str]] = set()
        # The size of the cache on each level of each node, in bytes.
        self._caches: dict[tuple[int, int], int] = {}

    def take_speed(self, values: Mapping[str, object], nodes: Collection[int], with_cpus: Collection[int]) -> None:
        """Take what `set-numa-node` takes for the type `hmat-lb`: how fast `initiator` gets at `target`.

        :raise MachineError: it is wrong.
        """
        initiator, target = _number(values["initiator"]), _number(values["target"])
        for name, number in (("initiator", initiator), ("target", target)):
            # As in QEMU, the number of nodes itself passes here.
            if number > len(nodes):
                raise MachineError(f"Invalid {name}={number}, it should be less than {len(nodes)}")
        if initiator not in with_cpus:
            raise MachineError(f"Invalid initiator={initiator}, it isn't an initiator proximity domain")
        if target not in nodes:
            raise MachineError(f"The target={target} should point to an existing node")
        kind = values["data-type"]
        table = self._tables.setdefault((values["hierarchy"], kind), _Table())
        measure, other = (_LATENCY, _BANDWIDTH) if str(kind).endswith(_LATENCY) else (_BANDWIDTH, _LATENCY)
        if measure not in values:
            raise MachineError(f"Missing '{measure}' option")
        if other in values:
            raise MachineError(f"Invalid option '{other}' since the data type is {measure}")
        value, between = _number(values[measure]), f"between initiator={initiator} and target={target}"
        if measure == _BANDWIDTH and value % _MEBIBYTE:
            raise MachineError(f"Bandwidth {value} {between} should be 1MB aligned")
        if (initiator, target) in table.pairs:
            raise MachineError(
                f"Duplicate configuration of the {measure} for initiator={initiator} and target={target}")
        if value:
            fits = table.add_latency(value) if measure == _LATENCY else table.add_bandwidth(value)
            if not fits:
                which = "min or max values" if measure == _LATENCY else "values"
                raise MachineError(
                    f"{measure.capitalize()} {value} {between} should not differ from previously entered {which} "
                    f"on more than {_UNUSABLE - 1}"
                )
            self._known.add((target, measure))
        table.pairs.add((initiator, target))

    def take_cache(self, values: Mapping[str, object], nodes: Collection[int]) -> None:
        """Take what `set-numa-node` takes for the type `hmat-cache`: a cache of `size` bytes before a node's memory.

        :raise MachineError: it is wrong.
        """
        node, level, size = _number(values["node-id"]), _number(values["level"]), _number(values["size"])
        if node >= len(nodes):
            raise MachineError(f"Invalid node-id={node}, it should be less than {len(nodes)}")
        if not {(node, _LATENCY), (node, _BANDWIDTH)} <= self._known:
            raise MachineError(
                f"The latency and bandwidth information of node-id={node} should be provided before memory side "
                "cache attributes"
            )
        if not 1 <= level <= _LAST_LEVEL:
            raise MachineError(
                f"Invalid level={level}, it should be larger than 0 and less than or equal to {_LAST_LEVEL}")
        if (node, level) in self._caches:
            raise MachineError(f"Duplicate configuration of the side cache for node-id={node} and level={level}")
        if level > 1:
            nearer = self._caches.get((node, level - 1))
            if nearer is None:
                raise MachineError(f"Cache level={level - 1} shall be defined first")
            if size <= nearer:
                raise MachineError(
                    f"Invalid size={size}, the size of level={level} should be larger than the size({nearer}) of "
                    f"level={level - 1}"
                )
        self._caches[node, level] = size


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value
