"""The CPUs of a machine: where each may sit, and plugging in more while the machine exists (hw/i386/x86-common.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.integers import INTEGER_RANGES
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qmpd.hardware.buses import Device
    from qmpd.machine.blueprint import CPUTopology, MachineSettings
    from qmpd.qom.node import Node

APIC_ID = "apic-id"
_UNAVAILABLE = "unavailable-features"
_TRUE = frozenset({"on", "yes", "true", "y"})
_UNASSIGNED = (1 << 32) - 1
# Other names of features, beside those that have `_` in place of `-` (target/i386/cpu.c).
_ALIASES = {
    "ffxsr": "fxsr-opt", "hv-apicv": "hv-avic", "i64": "lm", "pclmuldq": "pclmulqdq", "sse3": "pni",
    "sse4-1": "sse4.1", "sse4_1": "sse4.1", "sse4-2": "sse4.2", "sse4_2": "sse4.2", "xd": "nx",
}  # fmt: skip
# The levels of a place, outermost first, with what their messages call them.
_LEVELS = ("socket", "die", "module", "core", "thread")
# A place says of them what it is, where that is not the only one; it need not be told then.
_OPTIONAL = ("die", "module")


class Place:
    """Where a CPU sits: its number on each level."""

    __slots__ = ("levels",)

    def __init__(self, levels: dict[str, int]) -> None:
        self.levels = levels

    @classmethod
    def of_index(cls, topology: CPUTopology, index: int) -> Place:
        """That of CPU number `index`."""
        rest, thread = divmod(index, topology.threads)
        rest, core = divmod(rest, topology.cores)
        rest, module = divmod(rest, topology.modules)
        socket, die = divmod(rest, topology.dies)
        return cls({"socket": socket, "die": die, "module": module, "core": core, "thread": thread})

    @classmethod
    def of_apic_id(cls, topology: CPUTopology, apic: int) -> Place:
        """That which an APIC id stands for, be it there or not."""
        levels: dict[str, int] = {}
        for level, width in zip(reversed(_LEVELS), _widths(topology), strict=True):
            levels[level] = apic & (1 << width) - 1
            apic >>= width
        return cls({level: levels[level] for level in _LEVELS})

    def apic_id(self, topology: CPUTopology) -> int:
        """The number by which the CPU is known to the others."""
        apic = shift = 0
        for level, width in zip(reversed(_LEVELS), _widths(topology), strict=True):
            apic |= self.levels[level] << shift
            shift += width
        return apic


def _widths(topology: CPUTopology) -> tuple[int, ...]:
    """How many bits of an APIC id each level has, innermost first."""
    counts = (topology.threads, topology.cores, topology.modules, topology.dies)
    return (*((count - 1).bit_length() for count in counts), 32)


def is_processor(node: Node) -> bool:
    """Whether an object is a CPU."""
    return node.property(APIC_ID) is not None and node.type.endswith("-cpu")


def forget_place(node: Node) -> None:
    """Let a new CPU have no place yet."""
    for level in _LEVELS:
        if node.property(f"{level}-id") is not None:
            node.set_value(f"{level}-id", -1)
    node.set_value(APIC_ID, _UNASSIGNED)
    node.set_value("node-id", -1)


def plugged(devices: Iterable[Device], settings: MachineSettings) -> Iterator[tuple[int, Node]]:
    """The CPUs that there are, in the order in which they came, each with its number."""
    numbers = {
        Place.of_index(settings.topology, index).apic_id(settings.topology): index
        for index in range(settings.topology.maximum)
    }
    for device in devices:
        if is_processor(device.node):
            yield numbers[device.node.value(APIC_ID)], device.node


def plug(
    node: Node, model: str, settings: MachineSettings, devices: Iterable[Device], *, nowhere: int
) -> None:
    """Give a new CPU, of this model, its place.

    `nowhere` is the memory node that it may be said to be of where the machine has none.

    :raise MachineError: it cannot have that place, or none was given, or it is another model than the machine's.
    """
    topology = settings.topology
    if model != settings.cpu_model:
        raise MachineError(f"Invalid CPU type, expected cpu type: '{settings.cpu_model}-x86_64-cpu'")
    given = {level: node.value(f"{level}-id") for level in _LEVELS if node.property(f"{level}-id") is not None}
    apic = node.value(APIC_ID)
    if apic is None or apic == _UNASSIGNED:
        apic = _asked_for(topology, given).apic_id(topology)
    place = Place.of_apic_id(topology, apic)
    taken = {other.value(APIC_ID): index for index, other in plugged(devices, settings)}
    known = {
        Place.of_index(topology, index).apic_id(topology): index for index in range(topology.maximum)
    }
    if apic not in known:
        parts = ", ".join(f"{level}: {place.levels[level]}" for level in given)
        raise MachineError(f"Invalid CPU [{parts}] with APIC ID {apic}, valid index range 0:{topology.maximum - 1}")
    if apic in taken:
        raise MachineError(f"CPU[{known[apic]}] with APIC ID {apic} exists")
    for level, number in given.items():
        if number not in (-1, place.levels[level]):
            raise MachineError(
                f"property {level}-id: {number & _UNASSIGNED} doesn't match set apic-id: 0x{apic:x} "
                f"({level}-id: {place.levels[level]})"
            )
    own = settings.node_of_cpu(known[apic])
    home, given_home = nowhere if own is None else own, node.value("node-id")
    if given_home not in (-1, home):
        raise MachineError(f"invalid node-id, must be {home}")
    set_properties(node, settings)
    node.set_value(APIC_ID, apic)
    node.set_value("node-id", given_home if own is None else home)
    for level in given:
        node.set_value(f"{level}-id", place.levels[level])
    local = node.children.get("lapic")
    if local is not None:
        local.set_value("id", apic)


def set_properties(node: Node, settings: MachineSettings) -> None:
    """Give a CPU the properties that `-cpu` sets: all CPUs of a machine have them."""
    for name, text in settings.cpu_properties.items():
        found = node.property(name)
        if found is None:
            continue
        if found.kind == "bool":
            _set_feature(node, name, text in _TRUE)
        elif found.kind in INTEGER_RANGES or found.kind == "int":
            node.set_value(name, int(text, 0))
        elif found.kind in ("str", "string"):
            node.set_value(name, text)
    if settings.cpu_unavailable is not None:
        for name in settings.cpu_unavailable:
            _set_feature(node, name, False)
        if node.property(_UNAVAILABLE) is not None:
            node.set_value(_UNAVAILABLE, list(settings.cpu_unavailable))


def feature_name(name: str) -> str:
    """The name of a feature that may go by another."""
    return _ALIASES.get(name) or name.replace("_", "-")


def _set_feature(node: Node, name: str, value: bool) -> None:
    """Set a feature under all of its names."""
    own = feature_name(name)
    for each in {name, own, own.replace("-", "_"), *(alias for alias, known in _ALIASES.items() if known == own)}:
        if node.property(each) is not None:
            node.set_value(each, value)


def _asked_for(topology: CPUTopology, given: dict[str, int]) -> Place:
    """The place that the properties say.

    :raise MachineError: one is missing or out of its range.
    """
    per_socket = topology.threads * topology.cores * topology.modules * topology.dies
    limits = {
        "socket": (topology.maximum - 1) // per_socket, "die": topology.dies - 1, "module": topology.modules - 1,
        "core": topology.cores - 1, "thread": topology.threads - 1,
    }  # fmt: skip
    levels = dict.fromkeys(_LEVELS, 0)
    for level, number in given.items():
        if number < 0 and level in _OPTIONAL and limits[level] == 0:
            continue
        if number < 0:
            raise MachineError(f"CPU {level}-id is not set")
        if number > limits[level]:
            raise MachineError(f"Invalid CPU {level}-id: {number} must be in range 0:{limits[level]}")
        levels[level] = number
    return Place(levels)


def check_unplug(number: int) -> None:
    """Refuse to take away the CPU that the machine starts with.

    :raise MachineError: it is that one.
    """
    if number == 0:
        raise MachineError("Boot CPU is unpluggable")
