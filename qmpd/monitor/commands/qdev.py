"""QAPI module `qdev`: devices come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


@command("device_add")
def device_add(system: System, session: Client, arguments: Arguments) -> object:
    """The properties are set in the order of QEMU's dictionary."""
    system.devices.add(arguments)
    return EMPTY


@command("device_del")
def device_del(system: System, session: Client, arguments: Arguments) -> object:
    _ = system.devices
    system.inventory.remove_device(cast("str", arguments["id"]))
    return EMPTY
