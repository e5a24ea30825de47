"""The reference machines: what a release is asked on, besides being asked what it is."""

from __future__ import annotations

NO_MACHINE = "none"
NO_MACHINE_WITH_MEMORY = "none with memory"
PC = "pc"

_COMMON = ["-display", "none", "-nodefaults"]
MEMORY = 32
"""Memory of the reference machine, in MiB."""

OTHER_MEMORY, OTHER_CPUS = 47, 3
"""The other size that it is asked with: MiB and CPUs. No other number in an answer is one of these."""

OPTIONS: dict[str, list[str]] = {
    NO_MACHINE: ["-machine", "none", *_COMMON],
    NO_MACHINE_WITH_MEMORY: ["-machine", "none", "-m", str(MEMORY), *_COMMON],
    PC: ["-machine", "pc,accel=tcg", "-m", str(MEMORY), *_COMMON, "-S"],
}
"""The command line of each reference machine."""


def varied(machine: str, memory: int, cpus: int) -> list[str]:
    """The options of a reference machine of another size (memory in MiB): what differs then depends on the size."""
    if machine == NO_MACHINE:
        return OPTIONS[machine]
    sized = [*OPTIONS[machine], "-m", str(memory)]
    return [*sized, "-smp", str(cpus)] if machine == PC else sized
