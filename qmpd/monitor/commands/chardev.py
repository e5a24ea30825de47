"""QAPI module `char`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.monitor.commands import command
from qmpd.monitor.object_order import object_order

if TYPE_CHECKING:
    from qmpd.monitor.commands import Arguments
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.session import Session


@command("query-chardev")
def query_chardev(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    """The list is built back to front from the walk over `/chardevs`."""
    chardevs = {chardev.label: chardev for chardev in dispatcher.chardevs}
    connected = {client.label for client in dispatcher.sessions}
    suffix = dispatcher.release.behaviour.listening_chardev_suffix
    return [
        {
            "label": label,
            "filename": chardevs[label].describe(label in connected, suffix),
            "frontend-open": chardevs[label].frontend_open,
        }
        for label in reversed(object_order(chardevs))
    ]
