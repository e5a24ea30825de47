"""QAPI module `qdev`: devices come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.block.nodes import locations
from qmpd.common.refusals import Refusal
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system.at_rest import at_rest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


@command("device_add")
def device_add(system: System, session: Client, arguments: Arguments) -> object:
    """The properties are set in the order of QEMU's dictionary."""
    if system.is_migrating:
        raise Refusal("device-migrating")
    plug_in(system, arguments)
    return EMPTY


def plug_in(system: System, properties: Mapping[str, object], *, text: bool = False) -> None:
    """Add a device; it locks the files of its disk, and may have to open them anew.

    :raise Refusal: it cannot be had.
    """
    drive = properties.get("drive")
    node = system.inventory.backends.block.lookup(drive) if isinstance(drive, str) else None
    if node is None:
        system.devices.add(properties, text=text)
    else:
        names = [{"filename": name} for name in locations(node)]
        at_rest(system, lambda: system.devices.add(properties, text=text), names)


@command("device_del")
def device_del(system: System, session: Client, arguments: Arguments) -> object:
    _ = system.devices
    system.inventory.remove_device(cast("str", arguments["id"]), migrating=system.is_migrating)
    return EMPTY
