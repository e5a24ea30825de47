"""A machine's state as its guest sees it, in sections: what a snapshot and a migration carry (`qmpd.migration.stream`).

| section | what |
|---|---|
| `machine` | `type`, the machine type's full name; `memory`, in bytes; `cpus`: these have to be the same |
| `core` | the run-state core's side of the guest (`qmpd.machine.snapshot.take_guest_side`): a live update has it, too |
| `memory` | `pages`: those that hold something, by their numbers |
| `devices` | the devices' paths and types, which have to be the same; the balloon; what the guest did to its drives |

What is the host's is not among them: files, sockets, monitors, what users decided about shutdown and panic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from qmpd.common.refusals import NotModelled, Refusal
from qmpd.hardware import migratable
from qmpd.machine import snapshot as machine_snapshot
from qmpd.machine.boards import full_name
from qmpd.migration.stream import BadStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.hardware.devices import Devices
    from qmpd.hardware.inventory import Inventory
    from qmpd.machine import Machine, MachineSettings
    from qmpd.qapi import Release

    class System(Protocol):
        """A whole machine (`qmpd.system.system.System`)."""

        built: Inventory | None
        release: Release

        @property
        def machine(self) -> Machine:
            """Its run-state core."""

        @property
        def settings(self) -> MachineSettings:
            """What it was started with."""

        @property
        def devices(self) -> Devices:
            """Its devices."""

        @property
        def memory_pages(self) -> dict[int, bytearray]:
            """The pages of its memory that hold something."""

_SECTIONS = ("machine", "core", "devices", "memory")


def take(system: System) -> dict[str, Any]:
    """The machine's state."""
    return {
        "machine": kind(system),
        "core": machine_snapshot.take_guest_side(system.machine),
        "devices": _take_devices(system),
        "memory": {"pages": take_memory(system)},
    }


def hindering(system: System) -> list[str]:
    """The devices whose state cannot be taken, in their order."""
    if system.built is None and not system.settings.has_parts:
        return []
    try:
        devices = system.devices.buses.devices.values()
    except NotModelled:
        return []  # nothing can be added there
    return migratable.hindering(devices, system.release.behaviour)


def check_movable(system: System) -> None:
    """See whether the machine's state can be taken.

    :raise Refusal: a device hinders that.
    """
    found = hindering(system)
    if found:
        raise Refusal("state-blocked", device=found[0])


def take_memory(system: System) -> list[list[Any]]:
    """The pages of memory that hold something: their numbers, and their bytes."""
    return [[number, bytes(page)] for number, page in sorted(system.memory_pages.items())]


def put_memory(system: System, pages: list[list[Any]]) -> None:
    """Have these pages in memory, and nothing else."""
    found = {int(number): bytearray(page) for number, page in pages}
    system.memory_pages.clear()
    system.memory_pages.update(found)


def check(system: System, sections: Mapping[str, Any]) -> None:
    """See whether a state can be this machine's.

    :raise BadStream: it is another machine's.
    """
    unknown = next((name for name in sections if name not in _SECTIONS), None)
    if unknown is not None:
        raise BadStream(f"Unknown savevm section or instance '{unknown}' 0")
    missing = next((name for name in _SECTIONS if not isinstance(sections.get(name), dict)), None)
    if missing is not None:
        raise BadStream(f"Missing section '{missing}'")
    check_kind(system, sections["machine"])
    known = dict(_devices(system))
    received = sections["devices"].get("devices")
    if not isinstance(received, list) or any(
        not isinstance(each, list) or [type(part) for part in each] != [str, str] for each in received
    ):
        raise BadStream("section 'devices' is damaged")
    for path, driver in received:
        if known.pop(path, None) != driver:
            raise BadStream(
                f"Unknown savevm section or instance '{path}/{driver}' 0. Make sure that your current VM setup "
                "matches your saved VM setup, including any hotplugged devices"
            )
    if known:
        raise BadStream(f"Missing section '{next(iter(known))}'")


def kind(system: System) -> dict[str, Any]:
    """What kind of machine it is: the section `machine`."""
    settings = system.settings
    name = full_name(settings.machine_name or settings.machine_type, system.release.behaviour.usual_machine)
    return {"type": name, "memory": settings.memory, "cpus": settings.topology.cpus}


def check_kind(system: System, there: Mapping[str, Any]) -> None:
    """See whether a machine of this kind can be this one, or is the one with the `uuid`, where it tells that.

    :raise BadStream: it is another one.
    """
    here = kind(system)
    if there.get("type") != here["type"]:
        raise BadStream(f"Machine type received is '{there.get('type')}' and local is '{here['type']}'")
    for name in ("memory", "cpus"):
        if there.get(name) != here[name]:
            raise BadStream(f"Size mismatch: {name}: {there.get(name)} != {here[name]}")
    came, own = there.get("uuid"), system.settings.uuid
    if came is not None and own is not None and came != own:
        raise BadStream(f"UUID received is {came} and local is {own}")


def put(system: System, sections: Mapping[str, Any]) -> None:
    """Have the machine be in a state that `take` gave and `check` has passed; its vCPUs stand still.

    :raise BadStream: the state contradicts itself.
    """
    before = _changed(system)
    try:
        _put(system, sections)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        _put(system, before)
        raise BadStream(f"error while loading state: {error!r}") from None


def _changed(system: System) -> dict[str, Any]:
    """What `_put` changes, as it is."""
    core = machine_snapshot.take_guest_side(system.machine)
    return {"core": core, "devices": _take_fittings(system), "memory": {"pages": take_memory(system)}}


def _put(system: System, sections: Mapping[str, Any]) -> None:
    machine_snapshot.put_guest_side(system.machine, sections["core"])
    put_memory(system, sections["memory"]["pages"])
    inventory = system.built
    if inventory is None:
        return
    plain = sections["devices"]
    if plain["balloon"] is not None and inventory.has_devices:
        balloon = inventory.balloon
        balloon.taken, balloon.wanted = (int(each) for each in plain["balloon"])
    drives = {_called(drive): drive for drive in inventory.backends.block.drives}
    for name, tray_open, locked in plain["drives"]:
        drive = drives.get(name)
        if drive is not None and drive.has_tray:
            drive.tray_open, drive.locked = bool(tray_open), bool(locked)
    for name in plain.get("failover", ()):
        inventory.standby_driven(f"/machine/peripheral/{name}")


def _devices(system: System) -> list[tuple[str, str]]:
    try:
        devices = system.devices
    except NotModelled:
        return []
    aside = tuple(f"{path}/" for path in devices.removal.aside)
    there = devices.buses.devices.values()
    return sorted((each.path, each.driver) for each in there if not f"{each.path}/".startswith(aside))


def _take_devices(system: System) -> dict[str, Any]:
    negotiated: list[str] = []
    if system.built is not None and system.built.has_devices:
        negotiated = sorted(system.devices.pairs.negotiated)
    return {"devices": _devices(system), "failover": negotiated, **_take_fittings(system)}


def _take_fittings(system: System) -> dict[str, Any]:
    """The balloon, and the trays of drives."""
    found: dict[str, Any] = {"balloon": None, "drives": []}
    if system.built is not None:
        if system.built.has_devices:
            balloon = system.built.balloon
            found["balloon"] = [balloon.taken, balloon.wanted]
        found["drives"] = [
            [_called(drive), drive.tray_open, drive.locked]
            for drive in system.built.backends.block.drives
            if drive.has_tray
        ]
    return found


def _called(drive: Any) -> str:
    return str(drive.qdev or drive.name)
