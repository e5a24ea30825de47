"""The guest's network interfaces and routes."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qmpd.guest.agent.agent import Agent, Handler

_STATISTICS = (
    "rx-bytes", "rx-packets", "rx-errs", "rx-dropped", "tx-bytes", "tx-packets", "tx-errs", "tx-dropped",
)  # fmt: skip
_LOOPBACK = ("127.0.0.1", 8), ("::1", 128)
_UP, _GATEWAY = 1, 2


def _link_local(card: str) -> tuple[str, int]:
    """The address that a card gives itself (RFC 4291, appendix A)."""
    octets = [int(each, 16) for each in card.split(":")]
    octets[0] ^= 2
    octets[3:3] = [0xFF, 0xFE]
    number = 0xFE80 << 112 | int.from_bytes(bytes(octets), "big")
    return str(ipaddress.IPv6Address(number)), 64


def addresses(agent: Agent) -> Iterator[tuple[str, str, list[tuple[str, int]]]]:
    """Each card's name in the guest, its own address, and those of the network: what a DHCP server of QEMU's gives."""
    for number, card in enumerate(agent.facts.cards):
        given = agent.model.addresses.get(card)
        if given is None:
            given = [(f"10.0.{2 + number}.15", 24), _link_local(card)]
        yield f"eth{number}", card, given


def _family(address: str) -> str:
    return "ipv4" if isinstance(ipaddress.ip_address(address), ipaddress.IPv4Address) else "ipv6"


def _interface(name: str, card: str, some: list[tuple[str, int]]) -> dict[str, object]:
    return {
        "name": name,
        "hardware-address": card,
        "ip-addresses": [
            {"ip-address": each, "ip-address-type": _family(each), "prefix": prefix}
            for each, prefix in some
        ],
        "statistics": dict.fromkeys(_STATISTICS, 0),
    }


def interfaces(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-network-get-interfaces."""
    loopback = _interface("lo", "00:00:00:00:00:00", list(_LOOPBACK))
    return [loopback, *(_interface(*each) for each in addresses(agent))]


def routes(agent: Agent, arguments: dict[str, Any]) -> object:
    """guest-network-get-route: to each IPv4 network, and by the first one to all others."""
    found: list[dict[str, object]] = []
    for name, _, some in addresses(agent):
        for each, prefix in some:
            network = ipaddress.ip_interface(f"{each}/{prefix}").network
            if not isinstance(network, ipaddress.IPv4Network):
                continue
            gateway = str(network[min(2, network.num_addresses - 1)])
            if not found:
                found.append(_route(name, "0.0.0.0", "0.0.0.0", gateway, _UP | _GATEWAY))
            found.append(_route(name, str(network.network_address), str(network.netmask), "0.0.0.0", _UP))
    return found


def _route(name: str, destination: str, mask: str, gateway: str, flags: int) -> dict[str, object]:
    return {
        "iface": name, "destination": destination, "metric": 0, "gateway": gateway, "mask": mask, "irtt": 0,
        "flags": flags, "refcnt": 0, "use": 0, "window": 0, "mtu": 0, "version": 4,
    }  # fmt: skip


HANDLERS: Mapping[str, Handler] = {
    "guest-network-get-interfaces": interfaces,
    "guest-network-get-route": routes,
}
