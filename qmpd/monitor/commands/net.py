"""QAPI module `net`: backends, links, and what network cards let through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system import networks
from qmpd.system.askers import MonitorAsker

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


@command("netdev_add")
def netdev_add(system: System, session: Client, arguments: Arguments) -> object:
    """No packet goes anywhere: a backend is there for cards to use, and for those who connect to it."""
    system.inventory.backends.chardevs = system.chardev_facts
    networks.add(system, arguments, MonitorAsker(system, session.label))
    return EMPTY


@command("netdev_del")
def netdev_del(system: System, session: Client, arguments: Arguments) -> object:
    networks.remove(system, cast("str", arguments["id"]))
    return EMPTY


@command("set_link")
def set_link(system: System, session: Client, arguments: Arguments) -> object:
    network = system.inventory.backends.network
    network.set_link(cast("str", arguments["name"]), cast("bool", arguments["up"]))
    return EMPTY


@command("query-rx-filter")
def query_rx_filter(system: System, session: Client, arguments: Arguments) -> object:
    network = system.inventory.backends.network
    wanted = cast("str | None", arguments.get("name"))
    filters: list[dict[str, Any]] = []
    for card in network.cards:
        if wanted is not None and card.name != wanted:
            continue
        if card.captured is None:
            if wanted is not None:
                raise CommandError(f"net client({wanted}) doesn't support rx-filter querying")
            continue
        card.tells = True
        filters.append({"name": card.name, "main-mac": card.mac, **card.captured, **card.changes})
    if wanted is not None and not filters:
        if network.find(wanted) is not None:
            raise CommandError(f"net client({wanted}) isn't a NIC")
        raise CommandError(f"invalid net client name: {wanted}")
    return filters
