"""Monitors that `-mon`, `-qmp` and `-monitor` make, as objects, in the releases where they are some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import NotModelled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from qmpd.emulator.reading.options import EmulatorOptions
    from qmpd.hardware.inventory import Inventory

_MONITOR = "monitor"


def maker(
    options: EmulatorOptions, inventory: Inventory, users: Collection[str]
) -> Callable[[dict[str, Any]], None]:
    """What makes a monitor's object; `users` are the names of the objects that were asked for.

    The monitor that the machine had when it was captured is none of this machine's.
    """
    has_objects = _MONITOR in options.release.object_types.names
    if has_objects:
        try:
            for node in inventory.objects.of_type(_MONITOR):
                if node.name not in users:
                    inventory.objects.remove(node.name)
        except NotModelled:
            has_objects = False  # nothing is known of the machine's objects

    def make(given: dict[str, Any]) -> None:
        """:raise Refusal: the name is taken, or somebody uses the device."""
        if has_objects:
            inventory.backends.chardevs = options.chardevs.facts
            properties = {name: value for name, value in given.items() if name not in ("qom-type", "id")}
            inventory.objects.add(given["qom-type"], given["id"], properties, checked=False, text=False)

    return make
