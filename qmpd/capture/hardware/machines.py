"""The objects that a machine has from the start, and how they depend on its memory and its CPUs."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.capture.client import Gone, Program, Refused
from qmpd.capture.hardware.insertion import Variant, as_they_are, by_number, insertion_order, of_bus
from qmpd.capture.hardware.notation import PASSING, Shapes, entry
from qmpd.capture.hardware.walk import Seen, replace_in, try_setting, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.capture.hardware.insertion import Names

_COMMON = ["-display", "none", "-nodefaults", "-S"]
_MEBIBYTE = 1 << 20
# In MiB: no other number in an object is one of these, and the last one is more than fits below 4 GiB.
_MEMORY, _OTHER_MEMORY, _MUCH_MEMORY = 32, 47, 5120
_SEVERAL = (2, 3, 5)
_WITH_SLOTS = "32,slots=1,maxmem=1G"
DEVICE_MEMORY = "device-memory[0]"
_MEASURED = 3
_UNATTACHED = "/machine/unattached"
_DEVICE = re.compile(r"(?<=/unattached/)device\[(\d+)\]")
_SEARCH = 20000

# In which order the objects that belong to none come to be, in some releases: "stem" or "stem*count".  What a machine
# lacks is passed over.  Any other order is searched for.
_KNOWN = (
    "sysbus system io device*2 pci ram-below-4g pc.bios isa-bios pc.rom device*5 non-qdev-gpio device ioport80 ioportF0"
    " device non-qdev-gpio*24 device*8 non-qdev-gpio*2 device ide*4 device non-qdev-gpio",
    "sysbus system io device*2 pci ram-below-4g pc.bios isa-bios pc.rom device*3 non-qdev-gpio device ioport80 ioportF0"
    " device non-qdev-gpio*24 device*10 non-qdev-gpio*2 device ide*4 device",
    "sysbus system io device*2 pci device ram-below-4g pc.bios isa-bios pc.rom non-qdev-gpio*16 device ide*4 device"
    " non-qdev-gpio device ioport80 ioportF0 device non-qdev-gpio*8 device*7 non-qdev-gpio*3",
    "sysbus system io device*2 pci ram-below-4g pc.bios isa-bios pc.rom device*3 non-qdev-gpio*24 device non-qdev-gpio"
    " device ioport80 ioportF0 device*8 non-qdev-gpio*2",
    "sysbus system io device*2 pci ram-below-4g pc.bios isa-bios pc.rom non-qdev-gpio*24 device*2 non-qdev-gpio"
    " device ioport80 ioportF0 device*7 non-qdev-gpio*2",
)


class MachineType(NamedTuple):
    """A type of machine whose objects are captured: `options` are beside `-machine`."""

    name: str
    options: list[str]


MACHINES = (
    MachineType("none", []),
    MachineType("pc", ["-accel", "tcg"]),
    MachineType("q35", ["-accel", "tcg"]),
    MachineType("isapc", ["-accel", "tcg"]),
    MachineType("microvm", ["-accel", "tcg"]),
)


def options(machine: MachineType, *more: str) -> list[str]:
    """The command line of a machine."""
    return ["-machine", machine.name, *machine.options, *_COMMON, *more]


def starts(command: str, machine: MachineType, report: Callable[[str], None]) -> bool:
    """Whether the program has this machine."""
    try:
        with Program(command, options(machine)):
            return True
    except Refused as error:
        report(f"there is no machine {machine.name}: {error}")
        return False


def machine_lines(
    command: str, buses: frozenset[str], shapes: Shapes, report: Callable[[str], None]
) -> Iterator[bytes]:
    """What the machines' objects are, and the CPU models' properties; `buses` are the types that are buses."""
    for machine in MACHINES:
        if not starts(command, machine, report):
            continue
        try:
            if machine.name == "none":
                tree = _walk(command, options(machine))
                growing = _growing(tree, buses, {})
                yield entry("machine", machine.name, {"tree": shapes.node(tree, growing)})
            else:
                yield _machine(command, machine, buses, shapes, report)
        except Gone as error:
            report(f"the objects of machine {machine.name} cannot be asked for: {error}")
    yield from _models(command, report)


def _walk(command: str, words: list[str], *, settings: bool = True) -> Seen:
    with Program(command, words) as program:
        tree = walk(program.client, "/")
        assert tree is not None
        if settings:
            try_setting(program.client, "/", tree)
        return tree


def _machine(
    command: str, machine: MachineType, buses: frozenset[str], shapes: Shapes, report: Callable[[str], None]
) -> bytes:
    tree = _walk(command, options(machine, "-m", str(_MEMORY)))
    other = _walk(command, options(machine, "-m", str(_OTHER_MEMORY)), settings=False)
    try:
        much = _walk(command, options(machine, "-m", str(_MUCH_MEMORY)), settings=False)
    except Refused:
        much = other
    several: dict[int, Seen] = {}
    for count in _SEVERAL:
        try:
            words = options(machine, "-m", str(_MEMORY), "-smp", str(count))
            several[count] = _walk(command, words, settings=count == _MEASURED)
        except Refused:
            break
    low = _low_memory(much)
    # Before the memory is marked: the copies of the other sizes are compared by their values.
    content: dict[str, Any] = {}
    if low is not None:
        content["low-memory"] = low
    second = _second_cpu(several.get(_MEASURED), tree)
    _mark_memory(tree, other, much, low)
    cpu: list[str] = _cpus(tree)
    variants = [Variant(as_they_are, _inserted(tree.at(_UNATTACHED)))]
    left_out: list[Seen | None] = []
    nodes: list[Any] = []
    if cpu and _MEASURED in several:
        _mark_cpus(tree, several[_MEASURED], second)
        for count, seen in several.items():
            inserted = _inserted(seen.at(_UNATTACHED))
            variants.append(Variant(partial(_with_cpus, second, count), inserted))
        first, further, *_ = _cpus(several[_MEASURED])
        places = ((tree, cpu[0]), (several[_MEASURED], first), (several[_MEASURED], further))
        nodes = [shapes.node(_relative(_require(whole, path), path), {}) for whole, path in places]
        content["second-cpu"] = second
    elif cpu:
        nodes = [shapes.node(_relative(_require(tree, cpu[0]), cpu[0]), {})] * 3
        content["second-cpu"] = second
    left_out = [tree.at(path) for path in cpu]
    order, exact = insertion_order(variants, _starts(variants[0].walk), _SEARCH)
    if not exact:
        report(f"the order of the objects of machine {machine.name} that belong to none is not found")
    growing = _growing(tree, buses, {id(tree.at(_UNATTACHED)): (1, order)})
    content["tree"] = shapes.node(tree, growing, left_out)
    if nodes:
        content["cpu"] = nodes
        content["cpu-path"] = cpu[0]
    return entry("machine", machine.name, content)


def device_memory_lines(command: str) -> Iterator[bytes]:
    """In which order the machines list their properties that have a region for memory to be plugged in."""
    for machine in MACHINES:
        try:
            with Program(command, options(machine, "-m", _WITH_SLOTS)) as program:
                listed = program.client.ask("qom-list", {"path": "/machine"}).result
        except Refused:
            continue
        names = [each["name"] for each in listed]
        if DEVICE_MEMORY in names:
            yield entry("device-memory", machine.name, {"names": names})


def _require(tree: Seen, path: str) -> Seen:
    found = tree.at(path)
    assert found is not None
    return found


def _inserted(seen: Seen | None) -> Names:
    """The walk of an object's own properties: what qom-list gives, back to front."""
    return [] if seen is None else seen.names()[:0:-1]


def _growing(
    tree: Seen, buses: frozenset[str], known: dict[int, tuple[int, Names]]
) -> dict[int, tuple[int, Names]]:
    """The objects that get more properties while they live: containers and buses, whose class has `type` alone."""
    growing = dict(known)
    for _, seen in tree.below():
        if (seen.type == "container" or seen.type in buses) and id(seen) not in growing:
            walk = _inserted(seen)
            starts = [of_bus(walk), walk, by_number(walk)]
            order, _ = insertion_order([Variant(as_they_are, walk)], starts, _SEARCH // 20)
            growing[id(seen)] = (1, order)
    return growing


def _starts(names: Names) -> list[Names]:
    starts = []
    for known in _KNOWN:
        left = by_number(names)
        order: Names = []
        for word in known.split():
            stem, _, count = word.partition("*")
            for _ in range(int(count or 1)):
                fitting = re.compile(rf"{re.escape(stem)}(\[\d+\])?")
                found = next((name for name in left if fitting.fullmatch(name)), None)
                if found is not None:
                    left.remove(found)
                    order.append(found)
        starts.append(order + left)
    return [*starts, by_number(names)]


# CPUs


def _cpus(tree: Seen) -> list[str]:
    """The paths of the CPUs, the first one's first."""
    unattached = tree.at(_UNATTACHED)
    children = {} if unattached is None else unattached.children
    found = [name for name, seen in children.items() if "apic-id" in seen.names()]
    return [f"{_UNATTACHED}/{name}" for name in sorted(found, key=lambda name: int(name[7:-1]))]


def _second_cpu(several: Seen | None, tree: Seen) -> int:
    """The number that the second CPU's name has where there is one; all after it have higher ones then."""
    cpus = _cpus(several) if several is not None else []
    if len(cpus) > 1:
        return int(cpus[1].rpartition("[")[2][:-1])
    return len(_cpus(tree))


def _with_cpus(second: int, count: int, names: Names) -> Names:
    """What the names are with so many CPUs instead of one."""
    expanded: Names = []
    for name in names:
        number = int(name[7:-1]) if name.startswith("device[") else -1
        expanded.append(f"device[{number + count - 1}]" if number >= second else name)
        if number == second - 1:
            expanded += [f"device[{second + index}]" for index in range(count - 1)]
    return expanded


def _mark_cpus(tree: Seen, several: Seen, second: int) -> None:
    """Put a marker where a value is the number of CPUs."""
    for path, seen in tree.below():
        renamed = _DEVICE.sub(lambda match: _renumber(match, second), path)
        other = several.at(renamed)
        if other is not None:
            for name, value in seen.values.items():
                if (value, other.values.get(name)) == (1, _MEASURED) and type(value) is int:
                    seen.values[name] = "«cpus»"


def _renumber(match: re.Match[str], second: int) -> str:
    number = int(match[1])
    return f"device[{number + _MEASURED - 1}]" if number >= second else match[0]


def _relative(seen: Seen, path: str) -> Seen:
    """An object that says «self» for its own path."""
    table = {path: "«self»"}
    children = {name: _relative(child, path) for name, child in seen.children.items()}
    return replace(seen, values=replace_in(seen.values, table), children=children)


# Memory


def _low_memory(much: Seen) -> int | None:
    """How much of the memory is below 4 GiB where it does not all fit there, in bytes."""
    region = much.at(f"{_UNATTACHED}/ram-below-4g[0]")
    return None if region is None else region.values["size"]


def _mark_memory(tree: Seen, other: Seen, much: Seen, low: int | None) -> None:
    """Put a marker where a value depends on the size of the memory."""
    sizes = tuple(size * _MEBIBYTE for size in (_MEMORY, _OTHER_MEMORY, _MUCH_MEMORY))
    above = 0 if low is None else sizes[2] - low
    for path, seen in tree.below():
        trees = (other.at(path), much.at(path))
        for name, value in seen.values.items():
            if type(value) is not int:
                continue
            values = (value, *(None if each is None else each.values.get(name) for each in trees))
            if values == sizes:
                seen.values[name] = "«memory»"
            elif values == (*sizes[:2], low):
                seen.values[name] = "«memory below 4 GiB»"
            elif low is not None and values == (0, 0, above):
                seen.values[name] = "«memory above 4 GiB»"
            elif low is not None and values == (value, value, value + above):
                seen.values[name] = f"«memory above 4 GiB, plus {value}»"


# CPU models


def _models(command: str, report: Callable[[str], None]) -> Iterator[bytes]:
    """What the CPU models differ in from the first one that there is, the default one."""
    machine = next(each for each in MACHINES if each.name == "pc")
    if not starts(command, machine, lambda _: None):
        return
    with Program(command, options(machine)) as program:
        definitions = program.client.ask("query-cpu-definitions").result
        tree = walk(program.client, _UNATTACHED)
    assert tree is not None
    path = f"{_UNATTACHED}/{_cpu_name(tree)}"
    default = _cpu_values(tree.children[_cpu_name(tree)])
    listed = tree.children[_cpu_name(tree)].names()
    for name in sorted(each["name"] for each in definitions):
        try:
            with Program(command, options(machine, "-cpu", name)) as program:
                seen = walk(program.client, path)
        except (Refused, Gone) as error:
            report(f"CPU model {name} does not start: {error}")
            continue
        if seen is None:
            continue
        values = _cpu_values(seen)
        content: dict[str, Any] = {key: value for key, value in values.items() if default.get(key) != value}
        if seen.names() != listed:
            report(f"the properties of CPU model {name} are others than the default one's")
        yield entry("cpu", name, {"values": content})


def _cpu_name(unattached: Seen) -> str:
    return next(name for name, seen in unattached.children.items() if "apic-id" in seen.names())


def _cpu_values(seen: Seen) -> dict[str, Any]:
    return {name: value for name, value in seen.values.items() if dict(seen.properties)[name] not in PASSING}
