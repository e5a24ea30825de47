"""QAPI module `yank`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.monitor.commands import command
from qmpd.monitor.errors import CommandError
from qmpd.monitor.results import EMPTY

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


@command("query-yank")
def query_yank(system: System, session: Client, arguments: Arguments) -> object:
    return [{"type": "chardev", "id": chardev.label} for chardev in system.chardevs if chardev.yankable]


@command("yank")
def yank(system: System, session: Client, arguments: Arguments) -> object:
    """Disconnect what was named; nothing happens where one of the instances does not exist."""
    labels = []
    yankable = {chardev.label for chardev in system.chardevs if chardev.yankable}
    for instance in cast("list[dict[str, str]]", arguments["instances"]):
        if instance["type"] != "chardev" or instance["id"] not in yankable:
            raise CommandError("Instance not found", "DeviceNotFound")
        labels.append(instance["id"])
    for client in list(system.clients):
        if client.label in labels:
            client.sever("it was yanked")
    return EMPTY
