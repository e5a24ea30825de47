"""`-netdev`, `-nic` and `-net`, when the machine is put together: what QEMU's backends refuse, and what has no peer
(QEMU's net/net.c, net/hub.c and the backends' own files)."""

from __future__ import annotations

import random
import re
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from qmpd.common.integers import is_digits
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.common.scalars import integer_of
from qmpd.machine.blueprint import BoardPart, Place
from qmpd.option_language.errors import NOWHERE
from qmpd.option_language.groups import HELP, Entry
from qmpd.option_language.networks import read_netdev

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qmpd.emulator.reading.options import EmulatorOptions
    from qmpd.machine.blueprint import Device

    Values = dict[str, object]

_MAC = re.compile(r"([0-9a-fA-F]{1,2}[:-]){5}[0-9a-fA-F]{1,2}\Z|[0-9a-fA-F]{1,6}\Z")
_FEW_DIGITS = 6
_HOSTS = ("user", "tap", "socket", "stream", "dgram", "vde", "vhost-user")
# What cards were called before they had types of devices.
_OLD_MODELS = {"virtio": "virtio-net-pci"}


class _Client:
    """A backend, a card, or a port of a hub."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.peer: _Client | None = None

    def connect(self, other: _Client) -> None:
        self.peer, other.peer = other, self


class _Card(NamedTuple):
    """A card of the board's own: its model, its name, whom it is connected to, and what else was said of it."""

    model: str | None
    name: str | None
    peer: _Client
    properties: dict[str, object]


class Networks:
    """The network of a machine that is being put together."""

    def __init__(
        self, options: EmulatorOptions, warn: Callable[[str], None], add_netdev: Callable[[Values], None]
    ) -> None:
        """`warn` prints a line; `add_netdev` adds a backend to the machine, or refuses it."""
        self._add_netdev = add_netdev
        self._options = options
        self._release = options.release
        self._warn = warn
        self._clients: list[_Client] = []
        self._hubs: dict[int, list[_Client]] = {}
        self._cards: list[_Card] = []
        self._missing: list[tuple[str | None, str | None]] = []
        self._created = 0
        self.backends: list[Values] = []
        self._is_default = False

    def create(self) -> None:
        """Make everything that was asked for.

        :raise OptionError: it cannot be had.
        """
        options = self._options
        for location, values in options.netdevs:
            self._at(location, partial(self._add, values, location))
        for group, make in (("netdev", self._make_netdev), ("nic", self._make_nic), ("net", self._make_net)):
            for entry in options.groups.find(group):
                self._at(entry.location, partial(make, entry))

    def create_default(self) -> None:
        """Make what there is where nothing was asked for: a card and a network of its own, on a hub."""
        self._is_default = True
        for kind in ("nic", "user"):
            entry = Entry("net", None, NOWHERE)
            entry.pairs = [("type", kind)]
            self._make_net(entry)

    def _at(self, location: str, make: Callable[[], object]) -> None:
        if not self._release.behaviour.keyval_options:
            location = NOWHERE
        try:
            make()
        except Refusal as error:
            raise error.at(location) from None

    def _make_netdev(self, entry: Entry) -> None:
        if entry.get("type") in HELP:
            raise self._options.lists.listed("-netdev")
        self._add(self._read(entry.pairs, entry.identifier), entry.location)

    def _read(self, pairs: list[tuple[str, str]], identifier: str | None) -> Values:
        return read_netdev(self._release, pairs, identifier)

    def _new_id(self) -> str:
        number = self._created
        self._created += 1
        return f"#net{number}{random.randrange(100):02}"

    def _make_nic(self, entry: Entry) -> None:
        kind = entry.get("type")
        if kind in HELP and self._release.behaviour.nic_help:
            raise self._options.lists.listed("-nic")
        if kind == "none":
            return
        pairs = [pair for pair in entry.pairs if pair[0] not in ("model", "mac")]
        if kind is None:
            pairs.append(("type", "user"))
        identifier = entry.identifier or self._new_id()
        mac = entry.get("mac")
        if mac is not None:
            _check_mac(mac, "nic-multicast")
        client = self._add(self._read(pairs, identifier), entry.location)
        properties: dict[str, object] = {"vectors": 0}
        if mac is not None:
            properties["mac"] = _whole_mac(mac)
        self._cards.append(_Card(entry.get("model"), None, client, properties))

    def _make_net(self, entry: Entry) -> None:
        kind = entry.get("type")
        identifier = entry.identifier or self._new_id()
        if kind == "nic":
            self._make_card(entry, identifier)
            return
        if kind == "none":
            return
        values = self._read(entry.pairs, identifier)
        if kind == "hubport":
            raise Refusal("hubport-net")
        self._add(values, entry.location, port=self._port(0))

    def _make_card(self, entry: Entry, identifier: str) -> None:
        known = {"type", "netdev", "macaddr", "model", "addr", "vectors"}
        vectors = entry.get("vectors")
        if vectors is not None and not is_digits(vectors):
            raise Refusal("uint64-value-expected", name="vectors")
        for key, _ in entry.pairs:
            if key not in known:
                raise Refusal("option-unknown", name=key)
        wanted = entry.get("netdev")
        if wanted is None:
            peer = self._port(0)
        else:
            found = next((each for each in self._clients if each.name == wanted), None)
            if found is None:
                raise Refusal("netdev-missing", id=wanted)
            peer = found
        properties: dict[str, object] = {} if vectors is None else {"vectors": int(vectors)}
        if (mac := entry.get("macaddr")) is not None:
            _check_mac(mac, "nic-multicast-odd")
            properties["mac"] = _whole_mac(mac)
        if peer.kind == "hubport":
            self._add_netdev({"type": "hubport", "id": peer.name, "hubid": 0})
        self._cards.append(_Card(entry.get("model"), identifier, peer, properties))

    def _port(self, hub: int, name: str | None = None) -> _Client:
        ports = self._hubs.setdefault(hub, [])
        port = _Client(name or f"hub{hub}port{len(ports)}", "hubport")
        ports.insert(0, port)
        self._clients.append(port)
        return port

    def _add(self, values: Values, location: str, port: _Client | None = None) -> _Client:
        kind, name = str(values["type"]), str(values["id"])
        try:
            self._add_netdev(values)
        except NotModelled as refusal:
            self._warn(f"{location}: warning: {refusal.message}; {name} is left out")
        else:
            self.backends.append(values)
        if kind == "hubport":
            other = next((each for each in self._clients if each.name == values.get("netdev")), None)
            hub = values["hubid"]
            assert isinstance(hub, int)
            client = self._port(hub, name)
            if other is not None:
                client.connect(other)
        else:
            client = _Client(name, kind)
            self._clients.append(client)
        if port is not None:
            client.connect(port)
            if values in self.backends:
                self._add_netdev({"type": "hubport", "id": port.name, "hubid": 0, "netdev": name})
        return client

    # The machine's own cards

    @property
    def has_cards(self) -> bool:
        """Whether the machine is to have cards of its own."""
        return bool(self._cards)

    def create_cards(self, models: Iterable[str], usual: str) -> list[BoardPart]:
        """Make the cards of `-nic` and `-net nic`; `models` are the types that the machine can have, and `usual` is the
        one that it has where none is asked for, if any.

        :raise OptionError: there is no such model.
        """
        known = set(models)
        parts = []
        for number, (model, name, peer, properties) in enumerate(self._cards):
            if model in HELP:
                raise self._options.lists.cards(sorted(known))
            kind = _OLD_MODELS.get(model or "", model)
            if kind is not None and known and kind not in known:
                if self._release.behaviour.nic_models_refused_at_once:
                    raise Refusal("nic-model", model=model).at(NOWHERE)
                self._missing.append((name, model))
                continue
            card = _Client(name or f"card{number}", "nic")
            self._clients.append(card)
            card.connect(peer)
            if kind or usual:
                given = {"netdev": peer.name, **properties}
                parts.append(BoardPart(place=Place.CARD, driver=kind or usual, properties=given))
        return parts

    # What has no peer

    def plug(self, devices: Iterable[Device], is_card: Callable[[str], bool]) -> None:
        """Connect the cards among these devices."""
        counts: dict[str, int] = {}
        for device in devices:
            if not is_card(device.driver):
                continue
            number = counts.setdefault(device.driver, 0)
            counts[device.driver] += 1
            card = _Client(device.properties.get("id", f"{device.driver}.{number}"), "nic")
            self._clients.append(card)
            wanted = device.properties.get("netdev")
            peer = next((each for each in self._clients if each.name == wanted), None) if wanted else None
            if peer is not None:
                card.connect(peer)

    def check(self) -> None:
        """Warn of what is connected to nothing, unless that is what there is by default."""
        if self._is_default:
            return
        for number, ports in reversed(self._hubs.items()):
            kinds = set()
            for port in ports:
                if port.peer is None:
                    self._warn(f"warning: hub port {port.name} has no peer")
                else:
                    kinds.add(port.peer.kind)
            has_host = bool(kinds & set(_HOSTS))
            if has_host and "nic" not in kinds:
                self._warn(f"warning: hub {number} with no nics")
            if "nic" in kinds and not has_host:
                self._warn(f"warning: hub {number} is not connected to host network")
        for client in self._clients:
            if client.peer is None:
                self._warn(f"warning: {'nic' if client.kind == 'nic' else 'netdev'} {client.name} has no peer")
        for name, model in self._missing:
            self._warn(
                f"warning: requested NIC ({name or 'anonymous'}, model {model}) was not created "
                "(not supported by this machine?)"
            )

    @property
    def is_asked_for(self) -> bool:
        """Whether anything was said about the network."""
        groups = self._options.groups
        return bool(self._options.netdevs or any(groups.find(group) for group in ("netdev", "nic", "net")))


def _whole_mac(text: str) -> str:
    """An address as it is shown; a number alone is the end of one that begins with zeros."""
    if len(text) > _FEW_DIGITS:
        return ":".join(f"{int(part, 16):02x}" for part in re.split("[:-]", text))
    try:
        number = integer_of(text)
    except ValueError:
        number = int(text, 16)
    return ":".join(f"{number >> shift & 0xFF:02x}" for shift in range(40, -1, -8))


def _check_mac(text: str, multicast: str) -> None:
    if _MAC.match(text) is None:
        raise Refusal("nic-address")
    if len(text) > _FEW_DIGITS and int(re.split("[:-]", text)[0], 16) & 1:
        raise Refusal(multicast)
