"""A machine whole as plain data, for a process that takes it over."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qmpd.chardev.device import Chardev
from qmpd.common.plain import to_plain
from qmpd.machine import snapshot as machine_snapshot
from qmpd.system.activities import has_jobs, make_activity
from qmpd.system.machine_state import put_memory, take_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.system.system import System


# What clients decide while the machine is not made; what it is to start from next, and what the guest's clock shows.
_NUMA, _LATER = ("numa", "cpu_nodes", "node_memory"), ("boot_order", "boot_once", "clock_base", "clock_change")


def take(system: System) -> dict[str, object]:
    """All that the machine is beside its settings."""
    return {
        "machine": machine_snapshot.take(system.machine),
        "numa": {name: to_plain(getattr(system.settings, name)) for name in _NUMA},
        "later": {name: getattr(system.settings, name) for name in _LATER},
        "migration": None if system.migration is None else [system.migration.capabilities, system.migration.parameters],
        "dirty-rate": system.dirty_rate.snapshot() if system.has_dirty_rate else None,
        "modules-loaded": system.modules_loaded,
        "monitor-choices": {label: dict(each) for label, each in system.monitor_choices.items()},
        "chardevs": [chardev.take() for chardev in system.chardevs],
        "inventory": _take_inventory(system),
        "memory": take_memory(system),
        "activities": system.activities.snapshot(),
        "agent": None if system.guest is None or system.guest.agent is None else system.guest.agent.snapshot(),
        "console": None if system.guest is None or system.guest.console is None else system.guest.console.snapshot(),
    }


def _take_inventory(system: System) -> dict[str, Any] | None:
    if system.built is None:
        return None
    from qmpd.hardware import snapshot as inventory_snapshot

    return inventory_snapshot.take(system.built)


def put(system: System, state: Mapping[str, Any], *, locked: bool = True) -> None:
    """Make a new machine what `take` made `state` of; files of disks are `locked` unless it is for practice.

    :raise KeyError, ValueError: the state is not one that `take` made.
    """
    machine = system.machine
    numa: dict[str, Any] = {name: tuple(state["numa"][name]) for name in _NUMA}
    machine.settings = replace(machine.settings, **numa, **state["later"])
    machine_snapshot.put(machine, state["machine"])
    if state["migration"] is not None:
        settings = system.migration_settings
        settings.capabilities, settings.parameters = map(dict, state["migration"])
    if state["dirty-rate"] is not None:
        system.dirty_rate.restore(state["dirty-rate"])
    system.modules_loaded = state["modules-loaded"]
    system.monitor_choices = {label: dict(each) for label, each in state["monitor-choices"].items()}
    system.chardevs[:] = [Chardev.put(each) for each in state["chardevs"]]
    if state["inventory"] is not None:
        from qmpd.hardware import snapshot as inventory_snapshot
        from qmpd.system.build import make_inventory

        inventory = make_inventory(system.release, machine, system.computer)
        inventory_snapshot.put(inventory, state["inventory"], locked=locked)
        system.keep(inventory)
    put_memory(system, state["memory"])
    system.activities.restore(state["activities"], partial(make_activity, system))
    if has_jobs(system):
        system.jobs.come_together()
    if state["agent"] is not None and system.guest is not None:
        system.guest.have_agent().restore(state["agent"])
    if state["console"] is not None and system.guest is not None:
        system.guest.have_console().restore(state["console"])
