"""`-netdev`, `-nic` and `-net`, when the machine is put together: what QEMU's backends refuse, and what has no peer
(QEMU's net/net.c, net/hub.c and the backends' own files)."""

from __future__ import annotations

import ipaddress
import os
import random
import re
import stat
import sys
from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal
from qmpd.option_language import typed_values
from qmpd.option_language.errors import NOWHERE, OptionError
from qmpd.option_language.groups import HELP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qmpd.emulator.reading.options import EmulatorOptions
    from qmpd.machine.blueprint import Device
    from qmpd.option_language.groups import Entry

    Values = dict[str, object]

_MAC = re.compile(r"([0-9a-fA-F]{1,2}[:-]){5}[0-9a-fA-F]{1,2}\Z|[0-9a-fA-F]{1,6}\Z")
_HOSTS = ("user", "tap", "socket", "stream", "dgram", "vde", "vhost-user")
_TAP_ALONE = {
    "fd": (
        ("ifname", "script", "downscript", "vnet_hdr", "helper", "queues", "fds", "vhostfds"),
        "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, fds=, and vhostfds= are invalid with fd=",
    ),
    "fds": (
        ("ifname", "script", "downscript", "vnet_hdr", "helper", "queues", "vhostfd"),
        "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, and vhostfd= are invalid with fds=",
    ),
    "helper": (
        ("ifname", "script", "downscript", "vnet_hdr", "queues", "vhostfds"),
        "ifname=, script=, downscript=, vnet_hdr=, queues=, and vhostfds= are invalid with helper=",
    ),
}
_BRIDGES = "/etc/qemu/bridge.conf"
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


class Networks:
    """The network of a machine that is being put together."""

    def __init__(self, options: EmulatorOptions, warn: Callable[[str], None]) -> None:
        """`warn` prints a line."""
        self._options = options
        self._release = options.release
        self._warn = warn
        self._clients: list[_Client] = []
        self._hubs: dict[int, list[_Client]] = {}
        self._cards: list[tuple[str | None, str | None, _Client]] = []
        self._missing: list[tuple[str | None, str | None]] = []
        self._created = 0
        self.backends: list[Values] = []

    def create(self) -> None:
        """Make everything that was asked for.

        :raise OptionError: it cannot be had.
        """
        options = self._options
        for location, values in options.netdevs:
            self._at(location, lambda values=values: self._add(values))  # type: ignore[misc]
        for group, make in (("netdev", self._make_netdev), ("nic", self._make_nic), ("net", self._make_net)):
            for entry in options.groups.find(group):
                self._at(entry.location, lambda entry=entry, make=make: make(entry))  # type: ignore[misc]

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
        self._add(self._read(entry.pairs, entry.identifier))

    def _read(self, pairs: list[tuple[str, str]], identifier: str | None) -> Values:
        declared = typed_values.argument_type(self._release, "netdev_add")
        if identifier is not None:
            pairs = [*pairs, ("id", identifier)]
        refusal = "parameter 'ipv6-net' expects a number after '/'"
        if not self._options.since(8, 0):
            refusal = "Parameter 'ipv6-prefixlen' expects a number"
        return typed_values.from_pairs(self._release, declared, _with_prefix(pairs, refusal))

    def _new_id(self) -> str:
        number = self._created
        self._created += 1
        return f"#net{number}{random.randrange(100):02}"

    def _make_nic(self, entry: Entry) -> None:
        kind = entry.get("type")
        if kind in HELP and self._options.since(8, 1):
            raise self._options.lists.listed("-nic")
        if kind == "none":
            return
        pairs = [pair for pair in entry.pairs if pair[0] not in ("model", "mac")]
        if kind is None:
            pairs.append(("type", "user"))
        identifier = entry.identifier or self._new_id()
        mac = entry.get("mac")
        if mac is not None:
            _check_mac(mac, "NIC cannot have multicast MAC address")
        client = self._add(self._read(pairs, identifier))
        self._cards.append((entry.get("model"), None, client))

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
            raise OptionError("network backend 'hubport' is only supported with -netdev/-nic")
        self._add(values, port=self._port(0))

    def _make_card(self, entry: Entry, identifier: str) -> None:
        known = {"type", "netdev", "macaddr", "model", "addr", "vectors"}
        vectors = entry.get("vectors")
        if vectors is not None and not vectors.isdigit():
            raise OptionError("Parameter 'vectors' expects a uint64 value")
        for key, _ in entry.pairs:
            if key not in known:
                raise OptionError(f"Invalid parameter '{key}'")
        wanted = entry.get("netdev")
        if wanted is None:
            peer = self._port(0)
        else:
            found = next((each for each in self._clients if each.name == wanted), None)
            if found is None:
                raise OptionError(f"netdev '{wanted}' not found")
            peer = found
        if (mac := entry.get("macaddr")) is not None:
            _check_mac(mac, "NIC cannot have multicast MAC address (odd 1st byte)")
        self._cards.append((entry.get("model"), identifier, peer))

    def _port(self, hub: int, name: str | None = None) -> _Client:
        ports = self._hubs.setdefault(hub, [])
        port = _Client(name or f"hub{hub}port{len(ports)}", "hubport")
        ports.insert(0, port)
        self._clients.append(port)
        return port

    def _add(self, values: Values, port: _Client | None = None) -> _Client:
        kind, name = str(values["type"]), str(values["id"])
        if kind in ("none", "nic") or kind not in self._options.lists.network_types():
            raise OptionError(f"network backend '{kind}' is not compiled into this binary")
        if any(client.name == name for client in self._clients):
            raise OptionError(f"Duplicate ID '{name}'")
        if kind == "hubport":
            wanted = values.get("netdev")
            other = next((each for each in self._clients if each.name == wanted), None)
            if wanted is not None and other is None:
                raise OptionError(f"netdev '{wanted}' not found")
            hub = values["hubid"]
            assert isinstance(hub, int)
            client = self._port(hub, name)
            if other is not None:
                client.connect(other)
        else:
            _check(kind, name, values, self._options.chardevs.labels)
            client = _Client(name, kind)
            self._clients.append(client)
        if port is not None:
            client.connect(port)
        self.backends.append(values)
        return client

    # The machine's own cards

    @property
    def has_cards(self) -> bool:
        """Whether the machine is to have cards of its own."""
        return bool(self._cards)

    def create_cards(self, models: Iterable[str]) -> None:
        """Make the cards of `-nic` and `-net nic`; `models` are the types that the machine can have.

        :raise OptionError: there is no such model.
        """
        known = set(models)
        for number, (model, name, peer) in enumerate(self._cards):
            if model in HELP:
                raise self._options.lists.cards(sorted(known), "virtio-net-pci" if self._options.since(9, 0) else "")
            kind = _OLD_MODELS.get(model or "", model)
            if kind is not None and known and kind not in known:
                if not self._options.since(9, 0):
                    raise OptionError(f"Unsupported NIC model: {model}", NOWHERE)
                self._missing.append((name, model))
                continue
            card = _Client(name or f"card{number}", "nic")
            self._clients.append(card)
            card.connect(peer)

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
        """Warn of what is connected to nothing."""
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


def _with_prefix(pairs: list[tuple[str, str]], refusal: str) -> list[tuple[str, str]]:
    """The pairs with `ipv6-net=PREFIX/LENGTH` as the two that it is short for; `refusal` is for a length that is none.

    :raise OptionError: the length is none.
    """
    network = dict(pairs).get("ipv6-net")
    if network is None:
        return pairs
    prefix, slash, length = network.partition("/")
    if slash and not length.isdigit():
        raise OptionError(refusal)
    left = [pair for pair in pairs if pair[0] != "ipv6-net"]
    return [*left, ("ipv6-prefix", prefix), ("ipv6-prefixlen", length or "64")]


def _check_mac(text: str, multicast: str) -> None:
    if _MAC.match(text) is None:
        raise OptionError("invalid syntax for ethernet address")
    if len(text) > 6 and int(re.split("[:-]", text)[0], 16) & 1:
        raise OptionError(multicast)


# Backends


def _check(kind: str, name: str, values: Values, chardevs: dict[str, bool]) -> None:
    """Refuse what a backend refuses.

    :raise OptionError: it does.
    """
    match kind:
        case "user":
            _check_user(values)
        case "tap":
            _check_tap(name, values)
        case "bridge":
            # The helper speaks for itself first.
            sys.stderr.write(f"failed to parse default acl file `{_BRIDGES}'\n")
            raise OptionError("bridge helper failed")
        case "socket":
            _check_socket(values)
        case "dgram":
            if "local" not in values and not _is_multicast(values.get("remote")):
                raise OptionError("dgram requires local= parameter")
            _check_inherited(name, values.get("local"))
        case "vhost-user":
            label = values["chardev"]
            if label not in chardevs:
                raise OptionError(f'chardev "{label}" not found')
        case "vhost-vdpa":
            if "vhostdev" not in values and "vhostfd" not in values:
                raise OptionError("vhost-vdpa: neither vhostdev= nor vhostfd= was specified")
            if isinstance(path := values.get("vhostdev"), str) and not os.path.exists(path):
                raise OptionError(f"Could not open '{path}': No such file or directory")
        case "vde":
            raise OptionError("Could not open vde: No such file or directory")


def _check_user(values: Values) -> None:
    if values.get("ipv4") is values.get("ipv6") is False:
        raise OptionError("IPv4 and IPv6 disabled")
    network = _network(values.get("net"))
    host = _address(values.get("host"), "host")
    if host is not None and host not in network:
        raise OptionError("Host doesn't belong to network")
    start = _address(values.get("dhcpstart"), "DHCP start address")
    if start is not None and start not in network:
        raise OptionError("DHCP doesn't belong to network")
    name_server = values.get("dns")
    if name_server is not None:
        try:
            server = ipaddress.IPv4Address(str(name_server))
        except ValueError:
            raise OptionError("Failed to parse DNS") from None
        if server not in network:
            raise OptionError("DNS doesn't belong to network")
    prefix = values.get("ipv6-prefix")
    if prefix is not None and not _is_address(str(prefix), ipaddress.IPv6Address):
        raise OptionError("Failed to parse IPv6 prefix")
    for each in _strings(values.get("hostfwd")):
        _check_forwarding(each)
    for each in _strings(values.get("guestfwd")):
        _check_guest_forwarding(each)
    if "smb" in values and not os.path.exists("/usr/sbin/smbd"):
        raise OptionError("Could not find '/usr/sbin/smbd', please install it")


def _network(value: object) -> ipaddress.IPv4Network:
    if value is None:
        return ipaddress.IPv4Network("10.0.2.0/24")
    address, slash, mask = str(value).partition("/")
    try:
        start = ipaddress.IPv4Address(address)
    except ValueError:
        raise OptionError("Failed to parse netmask") from None
    try:
        return ipaddress.IPv4Network((start, mask if slash else 24), strict=False)
    except ValueError:
        if mask.isdigit():
            raise OptionError("Invalid netmask provided (must be in range 4-32)") from None
        raise OptionError("Invalid netmask provided") from None


def _address(value: object, what: str) -> ipaddress.IPv4Address | None:
    if value is None:
        return None
    try:
        return ipaddress.IPv4Address(str(value))
    except ValueError:
        raise OptionError(f"Failed to parse {what}") from None


def _strings(value: object) -> list[str]:
    found = value if isinstance(value, list) else []
    return [str(each["str"]) if isinstance(each, dict) else str(each) for each in found]


def _check_forwarding(rule: str) -> None:
    def refuse(why: str) -> OptionError:
        return OptionError(f"Invalid host forwarding rule '{rule}' ({why})")

    protocol, colon, rest = rule.partition(":")
    if not colon:
        raise refuse("No : separators")
    if protocol not in ("tcp", "udp", ""):
        raise refuse("Bad protocol name")
    address, colon, rest = rest.partition(":")
    if not colon:
        raise refuse("Missing : separator")
    if address and not _is_address(address):
        raise refuse("Bad host address")
    port, dash, rest = rest.partition("-")
    if not dash or not port.isdigit() or int(port) > 0xFFFF:
        raise refuse("Bad host port")
    address, colon, port = rest.partition(":")
    if not colon:
        raise refuse("Missing guest address")
    if address and not _is_address(address):
        raise refuse("Bad guest address")
    if not port.isdigit() or not 1 <= int(port) <= 0xFFFF:
        raise refuse("Bad guest port")


def _is_address(text: str, kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address] = ipaddress.IPv4Address) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _check_guest_forwarding(rule: str) -> None:
    parts = rule.split("-", 1)[0].split(":")
    if len(parts) != 3 or not _is_address(parts[1]) or not parts[2].isdigit() or not 1 <= int(parts[2]) <= 0xFFFF:
        raise OptionError(f"Invalid guest forwarding rule '{rule}'")


def _check_tap(name: str, values: Values) -> None:
    for key, (others, text) in _TAP_ALONE.items():
        if key in values and any(other in values for other in others):
            raise OptionError(text)
        if key in values:
            break
    wanted = values.get("fd", str(values.get("fds", "")).split(":", maxsplit=1)[0])
    if not wanted:
        return
    number = _descriptor(str(wanted))
    try:
        is_tap = stat.S_ISCHR(os.fstat(number).st_mode)
    except OSError as error:
        raise OptionError(f"{name}: Can't use file descriptor {number}: {error.strerror}") from None
    if not is_tap:
        raise OptionError(f"Unable to query TUNGETIFF on FD {number}: Inappropriate ioctl for device")


def _descriptor(text: str) -> int:
    if not text.isdigit():
        raise OptionError(f"Invalid file descriptor number '{text}'")
    return int(text)


def _check_socket(values: Values) -> None:
    if "fd" in values:
        ways = ["fd"]
    else:
        ways = [way for way in ("listen", "connect", "mcast", "udp") if way in values]
    if len(ways) != 1:
        raise OptionError("exactly one of listen=, connect=, mcast= or udp= is required")
    if "localaddr" in values and ways[0] not in ("mcast", "udp"):
        raise OptionError("localaddr= is only valid with mcast= or udp=")
    if ways[0] == "fd":
        number = _descriptor(str(values["fd"]))
        try:
            is_socket = stat.S_ISSOCK(os.fstat(number).st_mode)
        except OSError:
            is_socket = False
        if not is_socket:
            raise OptionError("can't get socket option SO_TYPE")
    elif ways[0] == "udp":
        if "localaddr" not in values:
            raise OptionError("localaddr= is mandatory with udp=")
        _check_host(str(values["localaddr"]))
        _check_host(str(values["udp"]))
    else:
        _check_host(str(values[ways[0]]))


def _check_host(text: str) -> None:
    _, colon, port = text.rpartition(":")
    if not colon:
        raise OptionError(f"host address '{text}' doesn't contain ':' separating host from port")
    if not port.isdigit():
        raise OptionError(f"port number '{port}' is invalid")


def _is_multicast(address: object) -> bool:
    if not isinstance(address, dict) or address.get("type") != "inet":
        return False
    try:
        return ipaddress.ip_address(str(address.get("host"))).is_multicast
    except ValueError:
        return False


def _check_inherited(name: str, address: object) -> None:
    if not isinstance(address, dict) or address.get("type") != "fd":
        return
    number = _descriptor(str(address.get("str")))
    try:
        os.fstat(number)
    except OSError as error:
        raise OptionError(f"{name}: Can't use file descriptor {number}: {error.strerror}") from None
