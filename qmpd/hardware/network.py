"""Network backends, and the network cards that use them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.identifiers import is_identifier
from qmpd.machine.errors import DeviceNotFound, MachineError

if TYPE_CHECKING:
    from qmpd.common.texts import Texts
    from qmpd.hardware.buses import Device

_BASE = "52:54:00:12:34:"
_FIRST, _LAST = 0x56, 0xFE
_UNSET = f"{_BASE}{_FIRST:02x}"


class Netdev:
    """A network backend (`-netdev`): its id, its type and options, and the card that uses it.

    `number` tells which came first, of backends and cards.
    """

    __slots__ = ("identifier", "link", "number", "options", "peer", "type")

    def __init__(self, identifier: str, kind: str, options: dict[str, Any], number: int = 0) -> None:
        self.identifier = identifier
        self.number = number
        self.type = kind
        self.options = options
        self.peer: Device | None = None
        self.link = True


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

    __slots__ = ("_addresses", "_made", "_texts", "_unique", "cards", "hubs", "netdevs")

    def __init__(self, texts: Texts, *, unique: bool) -> None:
        """`unique`: the ids of backends are checked, and each may be there once."""
        self._texts = texts
        self._unique = unique
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

    def check_id(self, identifier: str) -> None:
        """Refuse the id of a new backend.

        :raise MachineError: it is none, or is taken.
        """
        if self._unique:
            if not is_identifier(identifier):
                raise MachineError("Parameter 'id' expects an identifier")
            if self.find(identifier) is not None:
                raise MachineError(self._texts("netdev-duplicate", id=identifier))

    def add(self, identifier: str, kind: str, options: dict[str, Any], *, cold: bool = False) -> Netdev:
        """Add a backend (`netdev_add`); at one of the command line's ids nobody looks any more (`cold`).

        :raise MachineError: its id will not do.
        """
        if not cold:
            self.check_id(identifier)
        netdev = Netdev(identifier, kind, options, self._next_number())
        self.netdevs.append(netdev)
        hub = options.get("hubid")
        if kind == "hubport" and hub is not None and int(hub) not in self.hubs:
            self.hubs.append(int(hub))
        return netdev

    def _next_number(self) -> int:
        self._made += 1
        return self._made

    def remove(self, identifier: str) -> None:
        """Remove a backend (`netdev_del`); a card that uses it loses its link.

        :raise DeviceNotFound: there is none.
        """
        netdev = self.find(identifier)
        if netdev is None:
            raise DeviceNotFound(f"Device '{identifier}' not found")
        self.netdevs.remove(netdev)

    def set_link(self, name: str, up: bool) -> None:
        """Set the link of a backend or a card (`set_link`).

        :raise DeviceNotFound: there is none of that name.
        """
        client = self.find(name) or next((card for card in self.cards if card.name == name), None)
        if client is None:
            raise DeviceNotFound(f"Device '{name}' not found")
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

        :raise MachineError: there is none of this id, or it has a card.
        """
        netdev = self.find(identifier)
        if netdev is None:
            raise MachineError(f"Property '{owner}' can't find value '{identifier}'")
        if netdev.peer is not None:
            raise MachineError(f"Property '{owner}' can't take value '{identifier}', it's in use")

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
