"""Network backends, and the network cards that use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.identifiers import is_identifier
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.hardware import network_rules

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from qmpd.hardware.buses import Device
    from qmpd.hardware.network_rules import NetworkContext, NetworkRules
    from qmpd.hardware.user_network import Forward

# Backends that are nothing but themselves; any other reaches out to the host, where there is no machine to serve.
_MODELLED = frozenset({"user", "hubport", "tap", "socket", "stream", "dgram", "vhost-user", "vhost-vdpa", "bridge"})
# Types of `-net` that are no backend.
_NO_BACKEND = frozenset({"nic", "none"})
_WITH_SOCKETS = frozenset({"stream", "dgram", "socket"})
_HUB_PORT = "hubport"
_USER = "user"
_BASE = "52:54:00:12:34:"
_FIRST, _LAST = 0x56, 0xFE
_UNSET = f"{_BASE}{_FIRST:02x}"


class Netdev:
    """A network backend (`-netdev`): its id, its type and options, and the card that uses it.

    `number` tells which came first, of backends and cards; `forwards` are the ports of the host that it forwards.
    `state` is what is told of its socket, where it has one.
    """

    __slots__ = ("forwards", "identifier", "link", "number", "options", "peer", "state", "type")

    def __init__(self, identifier: str, kind: str, options: dict[str, Any], number: int = 0) -> None:
        self.identifier = identifier
        self.number = number
        self.type = kind
        self.options = options
        self.peer: Device | None = None
        self.link = True
        self.forwards: list[Forward] = []
        self.state = ""

    @property
    def has_socket(self) -> bool:
        """Whether it has a socket of its own; an open file that is handed over for one is left alone."""
        return self.type in _WITH_SOCKETS and "fd" not in self.options


class Card:
    """A network card: its name, its address and whether its link is up.

    `netdev` is its backend, even if that has been removed; `number` tells which came first, of backends and cards.

    `captured` is what query-rx-filter says of one that has been reset, None where that does not know its kind, and
    `changes` what the guest has changed of it since. `tells`: the next change of its filter is told; from then on none
    is until query-rx-filter has been asked.
    """

    __slots__ = ("captured", "changes", "device", "link", "mac", "name", "netdev", "number", "tells")

    def __init__(
        self,
        device: Device,
        name: str,
        mac: str,
        captured: dict[str, Any] | None,
        netdev: Netdev | None = None,
        number: int = 0,
    ) -> None:
        """See the members of the same names."""
        self.netdev = netdev
        self.number = number
        self.device = device
        self.name = name
        self.mac = mac
        self.captured = captured
        self.changes: dict[str, Any] = {}
        self.link = True
        self.tells = True


class Network:
    """The network of one machine."""

    __slots__ = ("_addresses", "_made", "_network_kinds", "_rules", "cards", "hubs", "netdevs")

    def __init__(self, rules: NetworkRules, kinds: Collection[str]) -> None:
        """`kinds` are the types of backend that there are; none where that is not known."""
        self._rules = rules
        self._network_kinds = kinds
        self.netdevs: list[Netdev] = []
        self.cards: list[Card] = []
        # The numbers of the hubs that there are, the oldest first; a hub stays when its ports are gone.
        self.hubs: list[int] = []
        self._made = 0
        # How many cards have each address that is given out.
        self._addresses: dict[int, int] = {}

    # Backends

    def find(self, identifier: str) -> Netdev | None:
        """The backend of this id."""
        return next((each for each in self.netdevs if each.identifier == identifier), None)

    def reached(self, netdev: Netdev) -> list[Netdev]:
        """The backends that a card with this one reaches: itself, or those behind the ports of its hub."""
        if netdev.type != _HUB_PORT:
            return [netdev]
        ports = [each for each in self.netdevs if each.type == _HUB_PORT]
        ports = [each for each in ports if each.options.get("hubid") == netdev.options.get("hubid")]
        behind = (self.find(each.options["netdev"]) for each in ports if "netdev" in each.options)
        return [each for each in behind if each is not None]

    def find_user(self, identifier: str | None) -> Netdev:
        """The user network of this id; without one the first.

        :raise Refusal: there is none.
        """
        if identifier is None:
            found = next((each for each in self.netdevs if each.type == _USER), None)
            if found is None:
                raise Refusal("user-none")
            return found
        found = self.find(identifier)
        if found is None:
            raise Refusal("user-missing", id=identifier)
        if found.type != _USER:
            raise Refusal("user-other")
        return found

    def check_forwards(self, forwards: Iterable[Forward]) -> None:
        """Refuse to forward what is forwarded.

        :raise Refusal: a port of the host is taken.
        """
        taken = [each for netdev in self.netdevs for each in netdev.forwards]
        for forward in forwards:
            if any(forward.collides(other) for other in taken):
                raise Refusal("forward-taken", rule=forward.rule)
            taken.append(forward)

    def add(self, values: Mapping[str, Any], context: NetworkContext, *, cold: bool = False) -> Netdev:
        """Add a backend (`netdev_add`); whether a command line's ids are any is asked no more (`cold`).

        :raise Refusal: it is refused.
        """
        kind, identifier = values["type"], values["id"]
        checks_ids = self._rules.netdev_ids_checked
        if checks_ids and not cold and not is_identifier(identifier):
            raise Refusal("identifier-expected", name="id")
        if kind in _NO_BACKEND or (self._network_kinds and kind not in self._network_kinds):
            raise Refusal("netdev-type", type=kind)
        if (checks_ids or cold) and self.find(identifier) is not None:
            raise Refusal("netdev-duplicate", id=identifier)
        if kind == _HUB_PORT and "netdev" in values and self.find(values["netdev"]) is None:
            raise Refusal("netdev-missing", id=values["netdev"])
        forwards = network_rules.check(values, self._rules, context)
        self.check_forwards(forwards)
        if kind not in _MODELLED:
            raise NotModelled(f"network backends of type {kind}")
        options = {name: value for name, value in values.items() if name not in ("type", "id")}
        netdev = Netdev(identifier, kind, options, self._next_number())
        netdev.forwards = forwards
        self.netdevs.append(netdev)
        hub = options.get("hubid")
        if kind == _HUB_PORT and hub is not None and hub not in self.hubs:
            self.hubs.append(hub)
        return netdev

    def _next_number(self) -> int:
        self._made += 1
        return self._made

    def remove(self, identifier: str) -> None:
        """Remove a backend (`netdev_del`); a card that uses it loses its link.

        :raise Refusal: there is none.
        """
        netdev = self.find(identifier)
        if netdev is None:
            raise Refusal("device-missing", id=identifier)
        self.netdevs.remove(netdev)

    def set_link(self, name: str, up: bool) -> None:
        """Set the link of a backend or a card (`set_link`).

        :raise Refusal: there is none of that name.
        """
        client = self.find(name) or next((card for card in self.cards if card.name == name), None)
        if client is None:
            raise Refusal("device-missing", id=name)
        client.link = up
        if isinstance(client, Netdev) and client.peer is not None:
            for card in self.cards:
                if card.device is client.peer:
                    card.link = up

    # Cards

    def reset(self) -> None:
        """The devices have been reset: what a guest has told its cards to let through is forgotten without a word."""
        for card in self.cards:
            card.changes = {}

    def check(self, identifier: str, owner: str) -> None:
        """Refuse a backend for a card's property.

        :raise Refusal: there is none of this id, or it has a card.
        """
        netdev = self.find(identifier)
        if netdev is None:
            raise Refusal("property-value-missing", owner=owner, id=identifier)
        if netdev.peer is not None:
            raise Refusal("property-value-in-use", owner=owner, id=identifier)

    def attach(self, device: Device, given: dict[str, Any], captured: dict[str, Any] | None) -> None:
        """A card is realized: it gets an address where it has none, and its backend is taken."""
        node = device.node
        if node.property("netdev") is None or node.property("mac") is None:
            return
        mac = given.get("mac")
        if not isinstance(mac, str):
            mac = self._new_address() if node.value("mac") == _UNSET else node.value("mac")
            for part in node.below():
                if part.value("mac") == _UNSET:
                    part.set_value("mac", mac)
        elif mac.startswith(_BASE):
            self._count(mac, 1)
        netdev = self.find(given["netdev"]) if given.get("netdev") else None
        if netdev is not None:
            netdev.peer = device
        name = device.identifier
        if name is None:
            name = f"{device.driver}.{sum(card.device.driver == device.driver for card in self.cards)}"
        self.cards.append(Card(device, name, mac, captured, netdev, self._next_number()))

    def detach(self, device: Device) -> None:
        """A card is gone."""
        for card in [card for card in self.cards if card.device is device]:
            self.cards.remove(card)
            if card.mac.startswith(_BASE):
                self._count(card.mac, -1)
        for netdev in self.netdevs:
            if netdev.peer is device:
                netdev.peer = None

    def _count(self, mac: str, by: int) -> None:
        last = int(mac[len(_BASE) :], 16)
        self._addresses[last] = max(0, self._addresses.get(last, 0) + by)

    def _new_address(self) -> str:
        last = next((each for each in range(_FIRST, _LAST + 1) if not self._addresses.get(each)), _FIRST)
        mac = f"{_BASE}{last:02x}"
        self._count(mac, 1)
        return mac
