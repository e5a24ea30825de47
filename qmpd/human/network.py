"""What `info network` shows: hubs with their ports, then cards with their backends (net/net.c, net/hub.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qmpd.common.refusals import NotModelled
from qmpd.hardware.network import Card, Netdev

if TYPE_CHECKING:
    from qmpd.hardware.network import Network
    from qmpd.system.system import System


class Rest(Protocol):
    """What follows the command's name (`qmpd.human.line.Line`)."""

    def end(self) -> None:
        """Refuse what follows."""


_HUB_PORT = "hubport"
_DEFAULT_NETWORK = "10.0.2.0"


def info_network(system: System, line: Rest) -> str:
    """The text.

    :raise Misread: something follows.
    :raise CommandError: there is a backend of which it is not known how it is shown.
    """
    line.end()
    if system.is_bare:
        return ""
    network = system.inventory.backends.network
    said = _hubs(network)
    behind = {port.options["netdev"] for port in network.netdevs if port.type == _HUB_PORT and "netdev" in port.options}
    clients: list[Netdev | Card] = [*network.netdevs, *network.cards]
    for client in sorted(clients, key=lambda each: each.number):
        if isinstance(client, Netdev):
            if client.peer is None and client.type != _HUB_PORT and client.identifier not in behind:
                said += _backend(client)
        elif client.netdev is None or client.netdev.type != _HUB_PORT:
            said += _card(client)
            said += "" if client.netdev is None else f" \\ {_backend(client.netdev)}"
    return said


def _hubs(network: Network) -> str:
    """The hubs and the ports of each, the newest first."""
    cards = {id(card.netdev): card for card in network.cards}
    said = ""
    for hub in reversed(network.hubs):
        said += f"hub {hub}\n"
        for port in reversed(network.netdevs):
            if port.type != _HUB_PORT or port.options.get("hubid") != hub:
                continue
            card = cards.get(id(port))
            backend = network.find(port.options["netdev"]) if "netdev" in port.options else None
            peer = _card(card) if card is not None else _backend(backend) if backend is not None else ""
            said += f" \\ {port.identifier}" + (f": {peer}" if peer else "\n")
    return said


def _card(card: Card) -> str:
    return f"{card.name}: index=0,type=nic,model={card.device.driver},macaddr={card.mac}\n"


def _backend(netdev: Netdev) -> str:
    if netdev.has_socket:
        return f"{netdev.identifier}: index=0,type={netdev.type},{netdev.state}\n"
    if netdev.type != "user":
        raise NotModelled(f"'info network' with backends of type {netdev.type}")
    restricted = netdev.options.get("restrict") in (True, "on", "yes", "true", "y")
    shown = f"net={_network_address(netdev.options.get('net'))},restrict={'on' if restricted else 'off'}"
    return f"{netdev.identifier}: index=0,type=user,{shown}\n"


def _network_address(given: str | None) -> str:
    """The address of the network that a backend has; without a mask it is that of the address's class."""
    if given is None:
        return _DEFAULT_NETWORK
    address, _, mask = given.partition("/")
    from ipaddress import IPv4Network

    if not mask:
        first = int(address.partition(".")[0])
        mask = "8" if first < 128 else "16" if first < 192 else "24"
    try:
        return str(IPv4Network(f"{address}/{mask}", strict=False).network_address)
    except ValueError:
        raise NotModelled(f"'info network' with the network {given}") from None
