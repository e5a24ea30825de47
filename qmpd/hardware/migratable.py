"""Devices whose state cannot go with a machine: what they hinder.  (QEMU's `unmigratable`, migration/savevm.c.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qmpd.hardware.buses import Device


class Rules(Protocol):
    """What releases differ in (`qmpd.qapi.behaviour.Behaviour`)."""

    @property
    def unmigratable_devices(self) -> str:
        """Their types; behind a colon what the state of one is called, where that has another name."""


def _names(rules: Rules) -> dict[str, str]:
    pairs = (each.partition(":") for each in rules.unmigratable_devices.split(","))
    return {kind: name or kind for kind, _, name in pairs}


def check(driver: str, rules: Rules) -> None:
    """See whether a machine that is only to have what can go with it may have a device.

    :raise Refusal: it may not.
    """
    if driver in _names(rules):
        raise Refusal("device-unmigratable", type=driver)


def hindering(devices: Iterable[Device], rules: Rules) -> list[str]:
    """The devices that hinder a migration, by their places and the names of their states, in their order."""
    names = _names(rules)
    return [f"{_place(device)}{names[device.driver]}" for device in devices if device.driver in names]


def _place(device: Device) -> str:
    """The way to a device: slots from PCI's root on, then ports; each way ended by a stroke."""
    slots: list[str] = []
    ports: list[str] = []
    at: Device | None = device
    while at is not None and at.bus is not None:
        if isinstance(at.slot, int) and "PCI" in at.bus.types:
            slots.insert(0, f"{at.slot >> 3:02x}.{at.slot & 7}")
        elif isinstance(at.slot, str):
            ports.insert(0, at.slot)
        at = at.bus.device
    way = [f"0000:00:{':'.join(slots)}"] if slots else []
    return "".join(f"{each}/" for each in (*way, *ports))
