"""QAPI module `yank`, and the way to the human monitor of module `misc`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.common.refusals import NotModelled
from qmpd.monitor.commands.machine import cpus
from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY

if TYPE_CHECKING:
    from qmpd.block.drivers.nbd import Nbd
    from qmpd.block.nodes import BlockNode
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


def _nodes(system: System) -> list[BlockNode]:
    """The nodes that are connected to a server."""
    if system.built is None:
        return []
    return [node for node in system.built.backends.block.nodes.values() if node.driver == "nbd"]


@command("query-yank")
def query_yank(system: System, session: Client, arguments: Arguments) -> object:
    found = [{"type": "chardev", "id": chardev.label} for chardev in system.chardevs if chardev.yankable]
    found += [{"type": "block-node", "node-name": node.name} for node in _nodes(system)]
    return [*found, {"type": "migration"}] if system.is_migrating else found


@command("yank")
def yank(system: System, session: Client, arguments: Arguments) -> object:
    """Disconnect what was named; nothing happens where one of the instances does not exist."""
    labels = []
    nodes = {node.name: node for node in _nodes(system)}
    yankable = {chardev.label for chardev in system.chardevs if chardev.yankable}
    instances = cast("list[dict[str, str]]", arguments["instances"])
    for instance in instances:
        if instance["type"] == "migration" and system.is_migrating:
            continue
        if instance["type"] == "block-node" and instance["node-name"] in nodes:
            continue
        if instance["type"] != "chardev" or instance["id"] not in yankable:
            raise CommandError("Instance not found", "DeviceNotFound")
        labels.append(instance["id"])
    for client in list(system.clients):
        if client.label in labels:
            client.sever("it was yanked")
    for instance in instances:
        if instance["type"] == "block-node":
            cast("Nbd", nodes[instance["node-name"]].content).yank()
    if {"type": "migration"} in instances:
        system.migrations.yank()
    return EMPTY


@command("human-monitor-command")
def human_monitor_command(system: System, session: Client, arguments: Arguments) -> object:
    """Execute a line as somebody at a terminal would; its lines end as those of a terminal."""
    if system.human is None:
        raise NotModelled("the human monitor here")
    cpu = cast("int | None", arguments.get("cpu-index"))
    if cpu is not None and cpu not in cpus(system):
        raise CommandError("Parameter 'cpu-index' expects a CPU number")
    said = system.human(cast("str", arguments["command-line"]), session, cpu)
    return _with_line_ends(said) if isinstance(said, str) else said.told_as(_with_line_ends)


def _with_line_ends(text: str) -> str:
    return text.replace("\n", "\r\n")
