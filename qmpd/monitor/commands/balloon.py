"""The balloon: `balloon` and `query-balloon` of QAPI module `machine`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.common.refusals import Refusal
from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY

if TYPE_CHECKING:
    from qmpd.hardware.balloon import Balloon
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


def _balloon(system: System) -> Balloon:
    inventory = system.inventory
    if not inventory.backends.has("virtio-balloon-device"):
        raise CommandError("No balloon device has been activated", "DeviceNotActive")
    return inventory.balloon


@command("balloon")
def balloon(system: System, session: Client, arguments: Arguments) -> object:
    """The guest follows, where there is one that does."""
    found = _balloon(system)
    size = cast("int", arguments["value"])
    if size <= 0:
        raise Refusal("balloon-size")
    found.inflate_to(size)
    return EMPTY


@command("query-balloon")
def query_balloon(system: System, session: Client, arguments: Arguments) -> object:
    return {"actual": _balloon(system).actual}
