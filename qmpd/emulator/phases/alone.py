"""The machine's type, its properties, its accelerator and its CPUs, where little else of QEMU's command line is read.

`qmpd serve` and fleets take some of QEMU's options alone; what those refuse is looked at as in the whole command line.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qmpd.emulator.lists import Lists
from qmpd.emulator.phases.board import Board
from qmpd.emulator.phases.cpu_features import CPUs
from qmpd.option_language.errors import NOWHERE, OptionError
from qmpd.option_language.groups import OptionGroups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from qmpd.emulator.command_line.machine import MachineOptions
    from qmpd.machine.blueprint import MachineSettings
    from qmpd.option_language.groups import Entry
    from qmpd.option_language.options import Given
    from qmpd.qapi.release import Release

# What `-machine` takes that is the accelerator's.
_ACCELERATOR = ("accel", "igd-passthru", "kvm-shadow-mem", "kernel-irqchip")


class Alone:
    """The options that concern the machine, and nothing else (`qmpd.emulator.phases.board.BoardOptions`)."""

    def __init__(self, release: Release, machine: MachineOptions, cpu: str | None, warn: Callable[[str], None]) -> None:
        self.release = release
        self.machine = machine
        self.lists = Lists(release, "")
        self.values: Mapping[str, str] = {} if cpu is None else {"cpu": cpu}
        self.objects: Sequence[tuple[str, dict[str, Any]]] = ()
        self.blockdevs: Sequence[tuple[str, dict[str, Any]]] = ()
        self.audio_backends: Mapping[str, str] = {}
        self._warn = warn

    def warn(self, text: str) -> None:
        """Tell of something that is not refused."""
        self._warn(text)


def finish(
    release: Release,
    machine: MachineOptions,
    cpu: str | None,
    accelerators: Sequence[Given],
    warn: Callable[[str], None],
) -> MachineSettings:
    """The settings of a machine of which all options were taken; `cpu` is what `-cpu` says.

    :raise Refusal: the options are wrong, one alone or together.
    """
    options = Alone(release, machine, cpu, warn)
    board = Board(options)
    machine.begin()
    board.choose(machine.machine_name)
    tree = {
        name: value for name, value in machine.machine.items() if name.replace("_", "-") not in _ACCELERATOR
    }
    backend = tree.pop("memory-backend", None) or tree.pop("memory_backend", None)
    given = {name: value for name, value in tree.items() if isinstance(value, str)}
    machine.settings = replace(machine.settings, machine_options=given)
    machine.choose_accelerator()
    board.apply(tree)
    for each in accelerators:
        entry = _entry(release, each)
        board.check_accelerator(entry.get("accel") or "", entry)
    board.warn_of_age()
    cpus = CPUs(options, board)
    cpus.parse()
    if backend is not None:
        # There are no objects.
        raise OptionError(f"Memory backend '{backend}' not found", NOWHERE)
    board.check_memory(machine)
    cpus.create([])
    board.check_parts(tree)
    return machine.settings


def _entry(release: Release, given: Given) -> Entry:
    return OptionGroups(release, _ignore).parse(given, "accel")


def _ignore(text: str) -> None:
    """The options themselves have been warned about."""
    del text
