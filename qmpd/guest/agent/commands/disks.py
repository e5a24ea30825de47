"""The guest's disks and file systems, and freezing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.guest.agent.agent import Agent, Handler
    from qmpd.guest.agent.model import Disk

_TYPE = "ext4"
_FREE = 8 << 20
_STATISTICS = (
    "read-sectors", "read-ios", "read-merges", "write-sectors", "write-ios", "write-merges", "discard-sectors",
    "discard-ios", "discard-merges", "flush-ios", "read-ticks", "write-ticks", "discard-ticks", "flush-ticks",
    "ios-pgr", "total-ticks", "weight-ticks",
)  # fmt: skip


def _address(disk: Disk) -> dict[str, object]:
    bus, slot, function = disk.address
    address: dict[str, object] = {
        "pci-controller": {"domain": 0, "bus": bus, "slot": slot, "function": function},
        "bus-type": disk.bus,
        "bus": 0,
        "target": disk.target,
        "unit": disk.unit,
    }
    if disk.serial:
        address["serial"] = disk.serial
    return {**address, "dev": f"/dev/{disk.name}"}


def disks(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-get-disks."""
    return [
        {"name": f"/dev/{disk.name}", "partition": False, "dependencies": [], "address": _address(disk)}
        for disk in agent.facts.disks
    ]


def statistics(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-get-diskstats."""
    return [
        {"name": disk.name, "major": 254, "minor": number * 16, "stats": dict.fromkeys(_STATISTICS, 0)}
        for number, disk in enumerate(agent.facts.disks)
    ]


def file_systems(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-get-fsinfo: the file systems, each on the disk of its place in the list."""
    found = []
    disks = list(agent.facts.disks)
    for number, mountpoint in enumerate(agent.model.mountpoints):
        disk = disks[number] if number < len(disks) else None
        total = max(0 if disk is None else disk.size, agent.files.used + _FREE)
        entry: dict[str, object] = {
            "name": f"vd{chr(ord('a') + number)}" if disk is None else disk.name,
            "mountpoint": mountpoint,
            "type": _TYPE,
            "used-bytes": agent.files.used if mountpoint == "/" else 0,
            "total-bytes": total,
        }
        if agent.face.tells_privileged_bytes:
            entry["total-bytes-privileged"] = total
        found.append({**entry, "disk": [] if disk is None else [_address(disk)]})
    return found


def status(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-fsfreeze-status."""
    return "thawed" if agent.model.frozen is None else "frozen"


def freeze(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-fsfreeze-freeze and guest-fsfreeze-freeze-list: how many were frozen; where that is none, nothing is."""
    wanted = arguments.get("mountpoints")
    chosen = [each for each in agent.model.mountpoints if wanted is None or each in wanted]
    agent.model.frozen = chosen or None
    return len(chosen)


def thaw(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-fsfreeze-thaw: how many were thawed."""
    frozen, agent.model.frozen = agent.model.frozen, None
    return len(frozen or ())


def trim(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-fstrim."""
    minimum = arguments.get("minimum", 0)
    return {"paths": [{"path": each, "trimmed": _FREE, "minimum": minimum} for each in agent.model.mountpoints]}


HANDLERS: Mapping[str, Handler] = {
    "guest-get-disks": disks,
    "guest-get-diskstats": statistics,
    "guest-get-fsinfo": file_systems,
    "guest-fsfreeze-status": status,
    "guest-fsfreeze-freeze": freeze,
    "guest-fsfreeze-freeze-list": freeze,
    "guest-fsfreeze-thaw": thaw,
    "guest-fstrim": trim,
}
