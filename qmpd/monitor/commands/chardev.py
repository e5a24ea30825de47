"""QAPI module `char`."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, cast

from qmpd.common.refusals import Refusal
from qmpd.common.table_order import object_order
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system import chardevs

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

_BASE64 = "base64"


@command("query-chardev")
def query_chardev(system: System, session: Client, arguments: Arguments) -> object:
    """The list is built back to front from the walk over `/chardevs`."""
    known = {chardev.label: chardev for chardev in system.chardevs}
    connected = {each.label for each in system.clients}
    backends = None if system.is_bare else system.inventory.backends
    flag = system.release.behaviour.chardev_flag
    return [
        {
            "label": label,
            "filename": known[label].describe(label in connected, flag),
            "frontend-open": known[label].frontend_open or (backends is not None and backends.chardev_is_open(label)),
        }
        for label in reversed(object_order(known))
    ]


@command("chardev-add")
def chardev_add(system: System, session: Client, arguments: Arguments) -> object:
    label = cast("str", arguments["id"])
    if not system.release.behaviour.chardev_opened_first and chardevs.find(system, label) is not None:
        raise Refusal("chardev-duplicate", id=label)
    return _opened(system, session, arguments, chardevs.add)


@command("chardev-change")
def chardev_change(system: System, session: Client, arguments: Arguments) -> object:
    return _opened(system, session, arguments, chardevs.change)


def _opened(system: System, session: Client, arguments: Arguments, open_it: Any) -> object:
    label = cast("str", arguments["id"])
    backend = cast("dict[str, Any]", arguments["backend"])
    around = chardevs.Surroundings(system, system.machine.report)
    try:
        path = open_it(system, label, backend, around, session.label)
    except Refusal as error:
        if error.code == "chardev-unknown":
            raise
        raise Refusal("chardev-failed", id=label, reason=error) from None
    return EMPTY if path is None else {"pty": path}


@command("chardev-remove")
def chardev_remove(system: System, session: Client, arguments: Arguments) -> object:
    chardevs.remove(system, cast("str", arguments["id"]))
    return EMPTY


@command("chardev-send-break")
def chardev_send_break(system: System, session: Client, arguments: Arguments) -> object:
    """No guest notices."""
    label = cast("str", arguments["id"])
    if chardevs.find(system, label) is None:
        raise Refusal("chardev-not-found", id=label)
    return EMPTY


@command("ringbuf-write")
def ringbuf_write(system: System, session: Client, arguments: Arguments) -> object:
    ring = chardevs.ring_of(system, cast("str", arguments["device"]))
    data = cast("str", arguments["data"])
    if arguments.get("format") == _BASE64:
        try:
            ring.write(base64.b64decode(data, validate=True))
        except binascii.Error:
            raise Refusal("base64") from None
    else:
        ring.write(data.encode("utf-8", "surrogateescape"))
    return EMPTY


@command("ringbuf-read")
def ringbuf_read(system: System, session: Client, arguments: Arguments) -> object:
    ring = chardevs.ring_of(system, cast("str", arguments["device"]))
    size = cast("int", arguments["size"])
    if size <= 0:
        raise Refusal("ring-read-size")
    data = ring.read(size)
    if arguments.get("format") == _BASE64:
        return base64.b64encode(data).decode()
    # As a string of C's it ends at the first NUL.
    return data.partition(b"\0")[0].decode("utf-8", "replace")
