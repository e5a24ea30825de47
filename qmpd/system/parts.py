"""Where a machine's objects meet what is known of its release."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from qmpd.common.texts import Texts
from qmpd.hardware.inventory import Inventory, InventoryRules
from qmpd.monitor.errors import CommandError
from qmpd.qom.tree import Builder
from qmpd.system.build import furnish, has_parts

if TYPE_CHECKING:
    from qmpd.hardware.devices import Devices
    from qmpd.hardware.user_objects import Objects
    from qmpd.machine import Machine
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.qapi import Release
    from qmpd.qom.tree import ObjectTree
    from qmpd.system.chardev import Chardev

_builders: WeakKeyDictionary[Release, Builder] = WeakKeyDictionary()


def make_inventory(release: Release, machine: Machine, rules: InventoryRules | None = None) -> Inventory:
    """A new inventory for a machine, without what the machine's settings give it; `rules` instead of the release's."""
    builder = _builders.get(release)
    if builder is None:
        builder = _builders[release] = Builder(release.hardware)
    return Inventory(machine, builder, release.object_types, Texts(release.hardware.texts), rules or release.behaviour)


def inventory_of(dispatcher: Dispatcher) -> Inventory:
    """The machine's inventory; made when it is first asked for, with what the command line gave the machine.

    What cannot be had is left out: whoever reads a command line refuses it before (`qmpd.system.build.check`).
    """
    machine = dispatcher.machine
    inventory = machine.inventory
    if inventory is None:
        inventory = machine.inventory = make_inventory(dispatcher.release, machine)
        if has_parts(machine.settings):
            with suppress(LookupError):
                _show_chardevs(dispatcher, inventory)
                furnish(inventory, machine.settings)
    return inventory


def is_bare(dispatcher: Dispatcher) -> bool:
    """Whether the machine has nothing but what it is made of, and nobody has asked for its objects."""
    return dispatcher.machine.inventory is None and not has_parts(dispatcher.settings)


def are_objects_known(dispatcher: Dispatcher) -> bool:
    """Whether anything is known of the objects of machines of this type; where not, none can be added either."""
    try:
        tree_of(dispatcher)
    except CommandError:
        return False
    return True


def devices_of(dispatcher: Dispatcher) -> Devices:
    """The machine's devices.

    :raise CommandError: nothing is known of the objects of machines of this type.
    """
    tree_of(dispatcher)
    return inventory_of(dispatcher).devices


def objects_of(dispatcher: Dispatcher) -> Objects:
    """The objects that users made.

    :raise CommandError: nothing is known of the objects of machines of this type.
    """
    tree_of(dispatcher)
    return inventory_of(dispatcher).objects


def tree_of(dispatcher: Dispatcher) -> ObjectTree:
    """The tree of the machine's objects.

    :raise CommandError: nothing is known of the objects of machines of this type.
    """
    inventory = inventory_of(dispatcher)
    try:
        tree = inventory.tree
    except LookupError as error:
        if not dispatcher.release.hardware:
            raise CommandError(
                f"qmpd does not know what the machines of release {dispatcher.release.name} are made of: "
                "qmpd capture --hardware finds out"
            ) from None
        raise CommandError(f"qmpd does not know the objects of machine {error.args[0]}") from None
    _show_chardevs(dispatcher, inventory)
    return tree


def _show_chardevs(dispatcher: Dispatcher, inventory: Inventory) -> None:
    """Let the objects have the character devices that there are now."""
    connected = {client.label for client in dispatcher.sessions}
    inventory.show_chardevs([
        (each.label, _backend(each.address), each.held or each.label in connected, _address(each))
        for each in dispatcher.chardevs
    ])


def _backend(address: str) -> str:
    """The type of the backend that has this address."""
    kind = address.partition(":")[0]
    return "socket" if kind in ("unix", "tcp", "fd", "vsock") else kind


def _address(chardev: Chardev) -> dict[str, object]:
    kind, _, rest = chardev.address.partition(":")
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        return {"type": "inet", "host": host, "port": port}
    return {"type": kind, "path": rest}
