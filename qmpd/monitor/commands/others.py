"""Commands of QAPI's smaller modules, of which it is known what QEMU refuses, and little more.

None of the machines here is recorded or replayed, none has a device tree, SEV or Xen: what
is about one of these finds that out.  Where QEMU would act on what is not modelled, that is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError
from qmpd.monitor.commands.unmodelled import refusal
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

_SYNCED = ("vhost-user-blk", "vhost-user-blk-pci")


def _never(name: str, code: str) -> None:
    """Register a command that is always refused, for what no machine here has."""

    def handler(system: System, session: Client, arguments: Arguments) -> object:
        raise Refusal(code)

    command(name, refuses=True)(handler)


for _name, _code in {
    "replay-seek": "replay-seek",
    "replay-break": "replay-break",
    "replay-delete-break": "replay-breaks",
    "x-colo-lost-heartbeat": "colo-off",
    "xen-event-inject": "xen-events-missing",
    "dumpdtb": "device-tree-missing",
    "sev-inject-launch-secret": "sev-off",
}.items():
    _never(_name, _code)


@command("client_migrate_info")
def _tell_client(system: System, session: Client, arguments: Arguments) -> object:
    """No client of SPICE is there to be told."""
    raise Refusal("client-protocol" if arguments["protocol"] != "spice" else "display-spice-missing")


@command("announce-self")
def _announce(system: System, session: Client, arguments: Arguments) -> object:
    """Nobody hears it."""
    return EMPTY


# Xen's COLO.  Only nodes of the driver `replication`, which is not modelled, would take part in it.


@command("xen-set-replication")
def _replicate(system: System, session: Client, arguments: Arguments) -> object:
    if arguments["enable"] and arguments.get("failover"):
        raise Refusal("replication-failover")
    return EMPTY


@command("query-xen-replication-status")
def _replication(system: System, session: Client, arguments: Arguments) -> object:
    return {"error": False}


@command("xen-colo-do-checkpoint")
def _checkpoint(system: System, session: Client, arguments: Arguments) -> object:
    return EMPTY


@command("xen-set-global-dirty-log")
def _log_dirt(system: System, session: Client, arguments: Arguments) -> object:
    return EMPTY


def _about_rocker(name: str) -> None:
    def handler(system: System, session: Client, arguments: Arguments) -> object:
        wanted = arguments["name"]
        if any(each.node.property("name") is not None and each.node.value("name") == wanted
               for each in system.devices.buses.devices.values() if each.driver == "rocker"):
            raise refusal(name)
        raise Refusal("rocker-missing", name=wanted)

    command(name, refuses=True)(handler)


for _name in ("query-rocker", "query-rocker-ports", "query-rocker-of-dpa-flows", "query-rocker-of-dpa-groups"):
    _about_rocker(_name)


@command("device-sync-config", refuses=True)
def _sync_configuration(system: System, session: Client, arguments: Arguments) -> object:
    try:
        device = system.devices.find(cast("str", arguments["id"]))
    except MachineError as error:
        raise MachineError(error.message) from None  # of no class of its own here
    if device.driver not in _SYNCED:
        raise Refusal("device-not-synced", type=device.driver)
    raise refusal("device-sync-config")


@command("display-reload")
def _reload_display(system: System, session: Client, arguments: Arguments) -> object:
    if arguments.get("tls-certs"):
        _find_vnc(system, "display-reload")
    return EMPTY


@command("display-update", refuses=True)
def _update_display(system: System, session: Client, arguments: Arguments) -> object:
    return _find_vnc(system, "display-update")


def _find_vnc(system: System, name: str) -> object:
    if not system.settings.vnc:
        raise Refusal("vnc-none")
    raise refusal(name)


@command("x-blockdev-change", refuses=True)
def _change_children(system: System, session: Client, arguments: Arguments) -> object:
    """Only nodes that are not modelled have children that come and go."""
    graph, texts = system.inventory.backends.block, system.inventory.texts
    parent, child, node = arguments["parent"], arguments.get("child"), arguments.get("node")
    found = graph.lookup(cast("str", parent))
    if found is None:
        raise MachineError(texts("device-or-node-missing", device=parent, node=parent))
    if (child is None) == (node is None):
        raise Refusal("child-unsaid" if child is None else "child-and-node")
    if found.driver == "quorum":
        raise refusal("x-blockdev-change")
    if child is not None:
        if child not in found.children:
            raise Refusal("child-missing", parent=parent, child=child)
        raise Refusal("child-not-removed", parent=parent)
    if node not in graph.nodes:
        raise Refusal("child-node-missing", node=node)
    raise Refusal("child-not-added", parent=parent)


def _on_path(name: str) -> None:
    def handler(system: System, session: Client, arguments: Arguments) -> object:
        if not system.tree.resolves(cast("str", arguments["path"])):
            raise Refusal("path-unresolved")
        raise refusal(name)

    command(name, refuses=True)(handler)


for _name in (
    "cxl-inject-general-media-event", "cxl-inject-dram-event", "cxl-inject-memory-module-event", "cxl-inject-poison",
    "cxl-inject-uncorrectable-errors", "cxl-inject-correctable-error",
):  # fmt: skip
    _on_path(_name)
