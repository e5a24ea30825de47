"""The balloon: `balloon` and `query-balloon` of QAPI module `machine`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.monitor.commands import command
from qmpd.monitor.errors import CommandError
from qmpd.monitor.results import EMPTY
from qmpd.system.parts import inventory_of

if TYPE_CHECKING:
    from qmpd.hardware.balloon import Balloon
    from qmpd.monitor.commands import Arguments
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.session import Session


def _balloon(dispatcher: Dispatcher) -> Balloon:
    inventory = inventory_of(dispatcher)
    if not inventory.backends.has("virtio-balloon-device"):
        raise CommandError("No balloon device has been activated", "DeviceNotActive")
    return inventory.balloon


@command("balloon")
def balloon(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    """The guest follows, where there is one that does."""
    found = _balloon(dispatcher)
    size = cast("int", arguments["value"])
    if size <= 0:
        raise CommandError(inventory_of(dispatcher).texts("balloon-size"))
    found.inflate_to(size)
    return EMPTY


@command("query-balloon")
def query_balloon(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    return {"actual": _balloon(dispatcher).actual}
