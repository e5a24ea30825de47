"""QAPI module `char`."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, cast

from qmpd.common.refusals import NotModelled
from qmpd.common.table_order import object_order
from qmpd.monitor.commands import command
from qmpd.monitor.errors import CommandError
from qmpd.monitor.results import EMPTY
from qmpd.system.chardev import Chardev

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


@command("query-chardev")
def query_chardev(system: System, session: Client, arguments: Arguments) -> object:
    """The list is built back to front from the walk over `/chardevs`."""
    chardevs = {chardev.label: chardev for chardev in system.chardevs}
    connected = {each.label for each in system.clients}
    backends = None if system.is_bare else system.inventory.backends
    suffix = system.release.behaviour.listening_chardev_suffix
    return [
        {
            "label": label,
            "filename": chardevs[label].describe(label in connected, suffix),
            "frontend-open": chardevs[label].frontend_open
            or (backends is not None and backends.chardev_is_open(label)),
        }
        for label in reversed(object_order(chardevs))
    ]


# Backends that nothing is opened for.
_NOTHING = {"null": "null", "ringbuf": "ringbuf", "memory": "ringbuf", "testdev": "testdev", "msmouse": "msmouse"}
_OPENED = frozenset({"file", "pty", "socket"})


@command("chardev-add")
def chardev_add(system: System, session: Client, arguments: Arguments) -> object:
    label = cast("str", arguments["id"])
    if any(each.label == label for each in system.chardevs):
        raise CommandError(system.inventory.texts("chardev-duplicate", id=label))
    backend = cast("dict[str, Any]", arguments["backend"])
    kind, options = backend["type"], backend.get("data", {})
    if kind in _NOTHING:
        system.chardevs.append(Chardev(label, _NOTHING[kind], False, False, False))
        return EMPTY
    if kind not in _OPENED or system.host is None:
        raise NotModelled(f"adding character devices of type {kind}")
    failure = system.release.behaviour.chardev_failure
    try:
        path = system.host.open_chardev(label, kind, _with_file(system, session, options))
    except ValueError as error:
        raise CommandError(failure.format(id=label, reason=error)) from None
    return EMPTY if path is None else {"pty": path}


def _with_file(system: System, session: Client, options: dict[str, Any]) -> dict[str, Any]:
    """A socket's options with the number of the file in place of the name that `getfd` gave it.

    :raise ValueError: there is no such file, or it is no socket.
    """
    address = options.get("addr", {})
    if address.get("type") != "fd":
        return options
    name = address["data"]["str"]
    number = None if system.descriptors is None else system.descriptors.take(session.label, name)
    if number is None:
        raise ValueError(f"File descriptor named '{name}' has not been found")
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        os.close(number)
        raise ValueError(f"File descriptor '{name}' is not a socket")
    return {**options, "addr": {"type": "fd", "data": {"str": str(number)}}}


@command("chardev-remove")
def chardev_remove(system: System, session: Client, arguments: Arguments) -> object:
    label = cast("str", arguments["id"])
    chardev = next((each for each in system.chardevs if each.label == label), None)
    if chardev is None:
        raise CommandError(f"Chardev '{label}' not found")
    inventory = system.built
    if chardev.frontend_open or (inventory is not None and inventory.backends.chardev_is_busy(label)):
        raise CommandError(f"Chardev '{label}' is busy")
    if system.host is not None:
        system.host.close_chardev(label)
    system.chardevs.remove(chardev)
    return EMPTY
