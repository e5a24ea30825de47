"""Where a machine's objects meet what is known of its release."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from qmpd.machine.objects.inventory import Inventory
from qmpd.machine.objects.tree import Builder
from qmpd.monitor.errors import CommandError

if TYPE_CHECKING:
    from qmpd.machine.objects.tree import ObjectTree
    from qmpd.monitor.chardev import Chardev
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.qapi import Release

_builders: WeakKeyDictionary[Release, Builder] = WeakKeyDictionary()


def inventory_of(dispatcher: Dispatcher) -> Inventory:
    """The machine's inventory, up to date; made when it is first asked for."""
    machine = dispatcher.machine
    inventory = machine.inventory
    if inventory is None:
        release = dispatcher.release
        builder = _builders.get(release)
        if builder is None:
            builder = _builders[release] = Builder(release.hardware)
        inventory = machine.inventory = Inventory(machine, builder, release.object_types, release.behaviour)
    return inventory


def tree_of(dispatcher: Dispatcher) -> ObjectTree:
    """The tree of the machine's objects.

    :raise CommandError: nothing is known of the objects of machines of this type.
    """
    inventory = inventory_of(dispatcher)
    try:
        tree = inventory.tree
    except LookupError as error:
        raise CommandError(f"qmpd does not know the objects of machine {error.args[0]}") from None
    connected = {client.label for client in dispatcher.sessions}
    inventory.show_chardevs(
        [(each.label, _backend(each.address), each.label in connected, _address(each)) for each in dispatcher.chardevs]
    )
    return tree


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
