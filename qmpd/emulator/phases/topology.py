"""`-smp`: how many virtual CPUs there are, and the arithmetic that fills in what was not said.

Measured on the releases: 5.2 spreads what is missing over sockets, later ones over cores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qmpd.machine.blueprint import CPUTopology
from qmpd.option_language.errors import OptionError

if TYPE_CHECKING:
    from qmpd.machine.boards import Board
    from qmpd.qapi.behaviour import Behaviour

# The levels that machine types must opt into, in the order in which QEMU looks at them.
_OPTIONAL = ("modules", "clusters", "dies", "books", "drawers")


def arrange(
    values: dict[str, int],
    board: Board,
    machine_name: str,
    behaviour: Behaviour,
    warn: Callable[[str], None],
    most: int | None = None,
) -> CPUTopology:
    """The topology that the given counts ask for, by the rules of the release.

    `values` are the counts by their names in `-smp`; `machine_name` is the machine's full name for errors; `most` is
    how many CPUs it can have, None for what is usual.

    :raise OptionError: the counts contradict each other, or the machine cannot have them.
    """
    levels = [level for level in behaviour.smp_levels.split(",") if level in board.levels]
    if behaviour.smp_zero != "ignored" and 0 in values.values():
        text = "CPU topology parameters must be greater than zero"
        if behaviour.smp_zero == "refused":
            raise OptionError(f"Invalid CPU topology: {text}")
        warn(f"Deprecated CPU topology (considered invalid): {text}")
    if behaviour.smp_prefers_cores:
        for level in _OPTIONAL:
            if level not in levels and values.get(level, 0) > 1:
                raise OptionError(behaviour.unsupported_smp_level.format(level=level))
        counts, cpus, maximum = _cores_first(values, levels)
        _check(counts, levels, cpus, maximum)
    else:
        counts, cpus, maximum = _sockets_first(values, levels, board)
    limit = board.most_cpus if most is None else most
    if not 1 <= maximum <= limit or cpus < 1:
        # QEMU counts in 32 bits without sign and prints with one.
        shown = maximum if maximum < 1 << 31 else maximum - (1 << 32)
        raise OptionError(f"Invalid SMP CPUs {shown}. The max CPUs supported by machine '{machine_name}' is {limit}")
    return CPUTopology(cpus=cpus, maximum=maximum, **{level: counts[level] for level in levels})


def _others(counts: dict[str, int], *left_out: str) -> int:
    """How many CPUs there are for one of the level left out."""
    product = 1
    for level, count in counts.items():
        if level not in left_out:
            product *= count
    return product & 0xFFFFFFFF


def _cores_first(values: dict[str, int], levels: list[str]) -> tuple[dict[str, int], int, int]:
    cpus, maximum = values.get("cpus", 0), values.get("maxcpus", 0)
    counts = {level: values.get(level, 0) for level in levels}
    for level in levels:
        if level not in ("sockets", "cores", "threads"):
            counts[level] = counts[level] or 1
    if not cpus and not maximum:
        for level in levels:
            counts[level] = counts[level] or 1
    else:
        maximum = maximum or cpus
        missing = next((level for level in ("cores", "sockets", "threads") if not counts[level]), None)
        for level in ("sockets", "cores", "threads"):
            if level != missing:
                counts[level] = counts[level] or 1
        if missing is not None:
            others = _others(counts, missing)
            counts[missing] = maximum // others if others else 0
    maximum = maximum or _others(counts)
    return counts, cpus or maximum, maximum


def _product(counts: dict[str, int], levels: list[str]) -> str:
    return " * ".join(f"{level} ({counts[level]})" for level in levels)


def _check(counts: dict[str, int], levels: list[str], cpus: int, maximum: int) -> None:
    if _others(counts) != maximum:
        raise OptionError(
            "Invalid CPU topology: product of the hierarchy must match maxcpus: "
            f"{_product(counts, levels)} != maxcpus ({maximum})"
        )
    if maximum < cpus:
        raise OptionError(
            "Invalid CPU topology: maxcpus must be equal to or greater than smp: "
            f"{_product(counts, levels)} == maxcpus ({maximum}) < smp_cpus ({cpus})"
        )


def _sockets_first(values: dict[str, int], levels: list[str], board: Board) -> tuple[dict[str, int], int, int]:
    """The rules of 5.2, where no count is ever checked for being zero."""
    cpus = values.get("cpus", 0)
    counts = {level: values.get(level, 0) or int(level == "dies") for level in levels}
    if not cpus or not counts["sockets"]:
        counts["cores"] = counts["cores"] or 1
        counts["threads"] = counts["threads"] or 1
        others = _others(counts, "sockets")
        if not cpus:
            counts["sockets"] = counts["sockets"] or 1
            cpus = others * counts["sockets"]
            maximum = values.get("maxcpus", cpus)
        else:
            maximum = values.get("maxcpus", cpus)
            counts["sockets"] = maximum // others if others else 0
    else:
        maximum = values.get("maxcpus", cpus)
        if not counts["cores"]:
            counts["threads"] = counts["threads"] or 1
            others = _others(counts, "cores")
            counts["cores"] = (cpus // others if others else 0) or 1
        elif not counts["threads"]:
            others = _others(counts, "threads")
            counts["threads"] = (cpus // others if others else 0) or 1
        elif _others(counts) < cpus:
            raise OptionError(f"cpu topology: {_product(counts, levels)} < smp_cpus ({cpus})")
    if maximum < cpus:
        raise OptionError("maxcpus must be equal to or greater than smp")
    if _others(counts) != maximum:
        which = " deprecated" if board.reads_topology else ""
        raise OptionError(f"Invalid CPU topology{which}: {_product(counts, levels)} != maxcpus ({maximum})")
    return counts, cpus, maximum
