"""NUMA: the nodes that memory and CPUs belong to, and how QEMU refuses what does not add up (hw/core/numa.c).

Nodes are given on the command line (`-numa`), or before the machine is made (`set-numa-node`).
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from qmpd.hardware.memory_attributes import MemoryAttributes
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.machine.blueprint import CPUTopology

_MOST_NODES = 128
_LOCAL = 10
_NO_HMAT = (
    "ACPI Heterogeneous Memory Attribute Table (HMAT) is disabled, enable it with -machine hmat=on "
    "before using any of hmat specific options"
)
_NOT_DECLARED = "Source/Destination NUMA node is missing. Please use '-numa node' option to declare it first."
# Levels of the topology, with what a place on it is called; those in the middle show where there is more than one.
_LEVELS = (("sockets", "socket-id"), ("dies", "die-id"), ("modules", "module-id"), ("cores", "core-id"))
_ALWAYS = ("socket-id", "core-id", "thread-id")


class NumaError(MachineError):
    """Nodes are refused; `hint` are lines of advice."""

    __slots__ = ()


class Numa:
    """The nodes of a machine that is being put together."""

    def __init__(
        self,
        topology: CPUTopology,
        warn: Callable[[str], None],
        *,
        hmat: bool,
        supported: bool,
        takes_memory: bool,
        memory_backend: Callable[[str], int | None],
    ) -> None:
        """What nodes are told of the machine; `warn` is given the text of each warning.

        :param hmat: the machine has a table of the memory's properties.
        :param supported: it can have nodes.
        :param takes_memory: they may have memory by its size.
        :param memory_backend: gives the size of an object that holds memory, None where there is none.
        """
        self._maximum = topology.maximum
        self._warn = warn
        self._hmat = hmat
        self._supported = supported
        self._takes_memory = takes_memory
        self._backend = memory_backend
        self._nodes: dict[int, int] = {}
        self._by_size = self._by_backend = False
        self._distances: dict[tuple[int, int], int] = {}
        self._places = places(topology)
        self._owners: list[int | None] = [None] * len(self._places)
        self._attributes = MemoryAttributes()
        # The nodes that say which node gets at their memory best.
        self._initiators: dict[int, int] = {}

    @property
    def has_backends(self) -> bool:
        """Whether nodes have objects that hold their memory."""
        return self._by_backend

    def take(self, values: Mapping[str, object]) -> None:
        """Take what `set-numa-node` takes.

        :raise NumaError: it is wrong.
        """
        if not self._supported:
            raise NumaError("NUMA is not supported by this machine-type")
        match values["type"]:
            case "node":
                self._take_node(values)
            case "dist":
                self._take_distance(values)
            case "cpu":
                node = values.get("node-id")
                if not isinstance(node, int):
                    raise NumaError("Missing mandatory node-id property")
                if node not in self._nodes:
                    raise NumaError(
                        f"Invalid node-id={node}, NUMA node must be defined with -numa node,nodeid=ID before it's "
                        "used with -numa cpu,node-id=ID"
                    )
                self._assign({key: value for key, value in values.items() if key not in ("type", "node-id")}, node)
            case kind:
                if not self._hmat:
                    raise NumaError(_NO_HMAT)
                try:
                    if kind == "hmat-lb":
                        with_cpus = {owner for owner in self._owners if owner is not None}
                        self._attributes.take_speed(values, self._nodes, with_cpus)
                    else:
                        self._attributes.take_cache(values, self._nodes)
                except MachineError as error:
                    raise NumaError(error.message) from None

    def _take_node(self, values: Mapping[str, object]) -> None:
        number = values.get("nodeid", len(self._nodes))
        assert isinstance(number, int)
        if number >= _MOST_NODES:
            raise NumaError(f"Max number of NUMA nodes reached: {number}")
        if number in self._nodes:
            raise NumaError(f"Duplicate NUMA nodeid: {number}")
        if "initiator" in values and not self._hmat:
            raise NumaError(_NO_HMAT)
        cpus = values.get("cpus", [])
        assert isinstance(cpus, list)
        for index in cpus:
            if index >= self._maximum:
                raise NumaError(f"CPU index ({index}) should be smaller than maxcpus ({self._maximum})")
            self._own(index, number)
        self._by_size = self._by_size or "mem" in values
        self._by_backend = self._by_backend or "memdev" in values
        if self._by_size and self._by_backend:
            raise NumaError("numa configuration should use either mem= or memdev=,mixing both is not allowed")
        size = values.get("mem", 0)
        assert isinstance(size, int)
        if "mem" in values:
            if not self._takes_memory:
                hint = ("Use -numa node,memdev instead",)
                raise NumaError("Parameter -numa node,mem is not supported by this machine type", hint)
            self._warn("Parameter -numa node,mem is deprecated, use -numa node,memdev instead")
        if "memdev" in values:
            found = self._backend(str(values["memdev"]))
            if found is None:
                raise NumaError(f"memdev={values['memdev']} is ambiguous")
            size = found
        self._nodes[number] = size
        initiator = values.get("initiator")
        if isinstance(initiator, int) and initiator != _MOST_NODES:
            self._initiators[number] = initiator

    def _take_distance(self, values: Mapping[str, object]) -> None:
        source, target, distance = values["src"], values["dst"], values["val"]
        assert isinstance(source, int)
        assert isinstance(target, int)
        assert isinstance(distance, int)
        if source not in self._nodes or target not in self._nodes:
            raise NumaError(_NOT_DECLARED)
        if distance < _LOCAL:
            raise NumaError(f"NUMA distance ({distance}) is invalid, it shouldn't be less than {_LOCAL}.")
        if source == target and distance != _LOCAL:
            raise NumaError(f"Local distance of node {source} should be {_LOCAL}.")
        self._distances[source, target] = distance

    def _assign(self, wanted: dict[str, object], node: int) -> None:
        matched = False
        for index, place in enumerate(self._places):
            for name in ("thread-id", "core-id", "cluster-id", "die-id", "socket-id"):
                if name in wanted and name not in place:
                    raise NumaError(f"{name} is not supported")
            if all(place.get(name) == value for name, value in wanted.items()):
                matched = True
                self._own(index, node)
        if not matched:
            raise NumaError("no match found")

    def _own(self, index: int, node: int) -> None:
        owner = self._owners[index]
        if owner is not None and owner != node:
            raise NumaError(f"CPU is already assigned to node-id: {owner}")
        self._owners[index] = node

    def check(self, memory: int) -> None:
        """See whether the nodes are complete.

        :raise NumaError: they are not.
        """
        if not self._nodes:
            return
        for number in range(max(self._nodes), -1, -1):
            if number not in self._nodes:
                raise NumaError(f"numa: Node ID missing: {number}")
        total = sum(self._nodes.values())
        if total != memory:
            raise NumaError(
                f"total memory for NUMA nodes (0x{total:x}) should equal RAM size (0x{memory:x})")
        if self._distances:
            self._check_distances()

    def _check_distances(self) -> None:
        count = len(self._nodes)
        given = self._distances
        for source in range(count):
            for target in range(source + 1, count):
                if (source, target) not in given and (target, source) not in given:
                    raise NumaError(
                        f"The distance between node {source} and {target} is missing, at least one distance value "
                        "between each nodes should be provided."
                    )
        asymmetric = any(given.get((target, source), value) != value for (source, target), value in given.items())
        if asymmetric and any(
            (source, target) not in given for source in range(count) for target in range(count) if source != target
        ):
            raise NumaError(
                "At least one asymmetrical pair of distances is given, please provide distances for both directions "
                "of all node pairs."
            )

    def memory_of_nodes(self) -> list[int]:
        """How much memory each node has, in bytes."""
        return [self._nodes[number] for number in sorted(self._nodes)]

    def owners(self) -> list[int | None]:
        """The node that each CPU was given to, None where it was given to none; empty without nodes."""
        return list(self._owners) if self._nodes else []

    def nodes_of_cpus(self) -> list[int | None]:
        """The node of each CPU that may be there; empty without nodes.

        Where no CPU was given to a node, the sockets go round; else those that were given to none are in the first.
        """
        if not self._nodes:
            return []
        if any(owner is not None for owner in self._owners):
            return [owner or 0 for owner in self._owners]
        return [place["socket-id"] % len(self._nodes) for place in self._places]

    def check_cpus(self) -> None:
        """See whether nodes name initiators that have CPUs, and warn of CPUs that no node has, where some have one.

        :raise NumaError: such a node is not there, or has none.
        """
        with_cpus = set(self.nodes_of_cpus())
        for number, initiator in sorted(self._initiators.items()):
            if initiator not in self._nodes:
                raise NumaError(f"NUMA node {initiator} is missing, use '-numa node' option to declare it first")
            if initiator not in with_cpus:
                raise NumaError(f"The initiator of NUMA node {number} is invalid")
        if all(owner is None for owner in self._owners):
            return
        left = [
            f"CPU {index} [{', '.join(f'{name}: {value}' for name, value in self._places[index].items())}]"
            for index, owner in enumerate(self._owners)
            if owner is None
        ]
        if left:
            self._warn(f"CPU(s) not present in any NUMA nodes: {', '.join(left)}")
            self._warn(
                "All CPU(s) up to maxcpus should be described in NUMA config, ability to start up with "
                "partial NUMA mappings is obsoleted and will be removed in future"
            )


def places(topology: CPUTopology) -> list[dict[str, int]]:
    """Where each CPU that a machine can have is, in the order of their numbers."""
    levels = [
        (name, getattr(topology, level))
        for level, name in (*_LEVELS, ("threads", "thread-id"))
        if name in _ALWAYS or getattr(topology, level) > 1
    ]
    names = [name for name, _ in levels]
    found = [
        dict(zip(names, numbers, strict=True)) for numbers in product(*(range(count) for _, count in levels))
    ]
    return found[: topology.maximum]
