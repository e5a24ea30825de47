"""Changing nodes that are open, and looking at the graph: a part of QAPI module `block-core`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.block import iothreads
from qmpd.block.activation import give_away_all, give_away_one, take_back, take_back_one
from qmpd.block.drivers.formats import Layered
from qmpd.block.drivers.table import DRIVERS, Role
from qmpd.block.files import ALL, NAMES
from qmpd.block.jobs.block_job import BlockJob
from qmpd.block.permissions import cumulative, uses
from qmpd.block.recorded import write_backing
from qmpd.block.reopening import reopen
from qmpd.monitor.commands.block_limits import in_executor
from qmpd.monitor.commands.block_stream import root_node
from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system.at_rest import at_rest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

_LONGEST_BACKING = 1023


def _graph(system: System) -> BlockGraph:
    return system.inventory.backends.block


@command("blockdev-reopen")
def blockdev_reopen(system: System, session: Client, arguments: Arguments) -> object:
    return at_rest(system, lambda: _reopen(system, arguments), arguments["options"])


def _reopen(system: System, arguments: Arguments) -> object:
    found = []
    for options in cast("list[dict[str, Any]]", arguments["options"]):
        name = options.get("node-name")
        if name is None:
            raise CommandError("node-name not specified")
        node = _graph(system).nodes.get(name)
        if node is None:
            raise CommandError(f"Failed to find node with node-name='{name}'")
        found.append((node, options))
    _graph(system).changed()
    if system.release.behaviour.graph_change_drains == "none":
        # Where not all disks are quiet meanwhile, these are.
        for node, _ in found:
            _graph(system).drain(node)
    if found:
        reopen(_graph(system), found)
    return EMPTY


@command("blockdev-set-active")
def blockdev_set_active(system: System, session: Client, arguments: Arguments) -> object:
    graph, name = _graph(system), cast("str | None", arguments.get("node-name"))
    node = None if name is None else graph.known(name)

    def act() -> object:
        if node is None:
            take_back(graph) if arguments["active"] else give_away_all(graph)
        else:
            take_back_one(graph, node) if arguments["active"] else give_away_one(graph, node)
        return EMPTY

    return at_rest(system, act)


@command("x-blockdev-reopen")
def x_blockdev_reopen(system: System, session: Client, arguments: Arguments) -> object:
    name = arguments.get("node-name")
    if name is None:
        raise CommandError("Node name not specified")
    node = _graph(system).nodes.get(str(name))
    if node is None:
        raise CommandError(f"Cannot find node named '{name}'")

    def change() -> object:
        reopen(_graph(system), [(node, arguments)], moves=False)
        return EMPTY

    return at_rest(system, change, arguments)


@command("block-set-write-threshold")
def block_set_write_threshold(system: System, session: Client, arguments: Arguments) -> object:
    name = str(arguments["node-name"])
    node = _graph(system).nodes.get(name)
    if node is None:
        raise CommandError(f"Device '{name}' not found")
    node.threshold = cast("int", arguments["write-threshold"])
    return EMPTY


@command("change-backing-file")
def change_backing_file(system: System, session: Client, arguments: Arguments) -> object:
    """What an image says is behind it changes; what is behind it does not."""
    node = root_node(_graph(system), str(arguments["device"]))
    image = _graph(system).find_node(str(arguments["image-node-name"]))
    content = image.content
    if not isinstance(content, Layered) or "backing" not in image.children:
        raise CommandError("not allowing backing file change on an image without a backing file")
    if image not in list(_chain(node)):
        raise CommandError(f"'{node.called}' and image file are not in the same chain")
    backing = str(arguments["backing-file"])
    if len(backing.encode("utf-8", "surrogatepass")) > _LONGEST_BACKING:
        raise CommandError(f"Could not change backing file to '{backing}': Invalid argument")
    kind, was_read_only, graph = image.children["backing"].driver, image.read_only, _graph(system)
    if was_read_only:
        reopen(graph, [(image, {"read-only": False})], keep=True)

    def work() -> None:
        write_backing(image, backing or None, kind)
        image.backing_as_recorded = False

    def ended() -> None:
        if was_read_only and graph.nodes.get(image.name) is image:
            reopen(graph, [(image, {"read-only": True})], keep=True)

    return in_executor(system, work, ended)


def _chain(node: BlockNode) -> Iterator[BlockNode]:
    """A node and what is behind it."""
    at: BlockNode | None = node
    while at is not None:
        yield at
        at = at.children.get("backing") or (at.children.get("file") if DRIVERS[at.driver].is_filter else None)


@command("x-blockdev-set-iothread")
def x_blockdev_set_iothread(system: System, session: Client, arguments: Arguments) -> object:
    """Nothing runs in the iothread's own thread: what counts is who is refused."""
    node = _graph(system).known(str(arguments["node-name"]))
    if node.drives and not arguments.get("force"):
        raise CommandError(f"Node {node.name} is associated with a BlockBackend and could be in use (use force=true to "
                           "override this check)")  # fmt: skip
    iothread = arguments.get("iothread")
    if iothread is not None:
        found = system.tree.find(f"/objects/{iothread}")
        if found is None or found.type != "iothread":
            raise CommandError(f"Cannot find iothread {iothread}")
    iothreads.move(node, iothreads.MAIN if iothread is None else str(iothread))
    return EMPTY


@command("x-debug-query-block-graph")
def x_debug_query_block_graph(system: System, session: Client, arguments: Arguments) -> object:
    """The drives and nodes with their permissions, numbered."""
    graph = _graph(system)
    numbers: dict[int, int] = {}
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    knows = system.release.behaviour.graph_permission

    def number(thing: object) -> int:
        return numbers.setdefault(id(thing), len(numbers) + 1)

    def edge(
        parent: object, child: BlockNode, role: str, does: int, shares: int, *,
        changes: tuple[bool, bool] = (False, True),
    ) -> None:  # fmt: skip
        own, others = (["graph-mod"] if knows and each else [] for each in changes)
        edges.append({
            "parent": number(parent), "child": number(child), "name": role, "perm": [*own, *_names(does)],
            "shared-perm": [*others, *_names(shares)],
        })

    users = {*graph.drives, *(drive for node in graph.nodes.values() for drive in node.drives if not drive.is_job)}
    for drive in sorted(users, key=lambda each: each.number):
        nodes.append({"id": number(drive), "type": "block-backend", "name": drive.name or drive.qdev})
        if drive.node is not None:
            edge(drive, drive.node, "root", drive.does, drive.allows, changes=drive.changes_graph)
    for job in () if system.is_bare else system.jobs:
        if isinstance(job, BlockJob):
            nodes.append({"id": number(job), "type": "block-job", "name": job.identifier})
            for hold in reversed(job.holds):
                if hold.node is not None:
                    edge(job, hold.node, hold.role, hold.does, hold.allows, changes=hold.changes_graph)
    for node in graph.nodes.values():
        nodes.append({"id": number(node), "type": "block-driver", "name": node.name})
        # One that has its target before it is put on its source has that as the newest.
        is_late = Role.LATE_TARGET in DRIVERS[node.driver].children.values()
        for role, child in node.children.items() if is_late else reversed(node.children.items()):
            called = DRIVERS[node.driver].spelled.get(role, role)
            own = ("node", node.name, called)
            use = next((each for each in uses(child) if (each.kind, each.name, each.role) == own), None)
            does, shares = cumulative(child) if use is None else (use.does, use.shares)
            edge(node, child, called, does, shares)
    # QEMU puts each in front of those before.
    return {"nodes": nodes[::-1], "edges": edges[::-1]}


def _names(bits: int) -> list[str]:
    return [name.replace(" ", "-") for bit, name in reversed(NAMES.items()) if bits & ALL & bit]
