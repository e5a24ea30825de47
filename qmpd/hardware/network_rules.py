"""What network backends refuse, whoever asks for one (QEMU's net/net.c and the backends' own files)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from qmpd.common.addresses import ipv4_of, is_multicast
from qmpd.common.integers import is_digits
from qmpd.common.refusals import Refusal
from qmpd.hardware import user_network

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.chardev.facts import ChardevFacts
    from qmpd.common.computer import Asker, Computer

    Values = Mapping[str, Any]

_TAP_SETUP = ("ifname", "script", "downscript", "vnet_hdr")
# What excludes what, in the releases that look at one way to have a tap after another.
_TAP_ALONE = {
    "fd": ("tap-fd", (*_TAP_SETUP, "helper", "queues", "fds", "vhostfds")),
    "fds": ("tap-fds", (*_TAP_SETUP, "helper", "queues", "vhostfd")),
    "helper": ("tap-helper", (*_TAP_SETUP, "queues", "vhostfds")),
}
_TAP_WAYS = ("queues", "helper", "fds", "fd")
_BRIDGES = "/etc/qemu/bridge.conf"
_SOCKET_WAYS = ("fd", "listen", "connect", "mcast", "udp")
_MOST_QUEUES = 1024
_INTERNET, _FILE = "inet", "fd"


class NetworkRules(Protocol):
    """What releases differ in (`qmpd.qapi.behaviour.Behaviour`)."""

    @property
    def netdev_ids_checked(self) -> bool:
        """Whether `netdev_add` looks at its id."""

    @property
    def tap_ways_apart(self) -> bool:
        """Whether the ways to have a tap exclude each other before anything else is looked at."""

    @property
    def socket_kind_first(self) -> bool:
        """Whether an open file for a socket is asked what it is before it is made not to block."""

    @property
    def guest_forwards_to_host(self) -> bool:
        """Whether a user network's rule for the guest's connections may be for the host's own address."""


class NetworkContext(NamedTuple):
    """What a backend is to fit into: the computer, the machine's character devices, and who asks."""

    computer: Computer
    chardevs: Mapping[str, ChardevFacts]
    asker: Asker


def check(values: Values, rules: NetworkRules, context: NetworkContext) -> list[user_network.Forward]:
    """Refuse what a backend refuses; gives the ports of the host that it forwards.

    :raise Refusal: it refuses.
    """
    kind = values["type"]
    if kind == "user":
        return user_network.check(values, context.computer, to_host=rules.guest_forwards_to_host)
    rule = _RULES.get(kind)
    if rule is not None:
        rule(values, rules, context)
    return []


def _tap(values: Values, rules: NetworkRules, context: NetworkContext) -> None:
    if rules.tap_ways_apart:
        _check_tap_ways(values)
    else:
        way = next((way for way in _TAP_ALONE if way in values), None)
        code, others = _TAP_ALONE.get(way or "", ("", ()))
        if any(name in values for name in others):
            raise Refusal(code)
        if way is None and "vhostfds" in values:
            raise Refusal("tap-vhostfds")
        _check_tap_counts(values)
    for text in _tap_files(values):
        number = context.asker.descriptor(text)
        try:
            kind = context.computer.descriptor_kind(number)
        except OSError as error:
            raise Refusal("descriptor-unusable", name=values["id"], number=number, reason=error.strerror) from None
        if kind != "tap":
            raise Refusal("tap-none", number=number)
    if "helper" in values:
        raise Refusal("bridge-helper")
    if "vhostfds" in values:
        _check_tap_counts(values)


def _check_tap_ways(values: Values) -> None:
    ways = [way for way in _TAP_WAYS if way in values]
    if len(ways) > 1:
        raise Refusal("tap-ways")
    if ways and ways != ["queues"] and any(name in values for name in _TAP_SETUP):
        raise Refusal("tap-setup")
    if values.get("queues") == 0:
        raise Refusal("tap-queues")


def _check_tap_counts(values: Values) -> None:
    if "fds" in values and "vhostfds" in values and len(_listed(values, "fds")) != len(_listed(values, "vhostfds")):
        raise Refusal("tap-vhostfds-count")


def _listed(values: Values, name: str) -> list[str]:
    text: str = values[name]
    return text.split(":")


def _tap_files(values: Values) -> list[str]:
    if "fd" in values:
        return [values["fd"]]
    return _listed(values, "fds") if "fds" in values else []


def _bridge(values: Values, _rules: NetworkRules, context: NetworkContext) -> None:
    if "helper" not in values:
        # It speaks for itself first.
        context.asker.complain(f"failed to parse default acl file `{_BRIDGES}'")
    raise Refusal("bridge-helper")


def _socket(values: Values, rules: NetworkRules, context: NetworkContext) -> None:
    ways = [way for way in _SOCKET_WAYS if way in values]
    if len(ways) != 1:
        raise Refusal("net-socket-ways")
    way = ways[0]
    if "localaddr" in values and way not in ("mcast", "udp"):
        raise Refusal("net-socket-local")
    if way == "fd":
        number = context.asker.descriptor(values["fd"])
        _check_socket_file(values["id"], number, rules, context)
        return
    if way == "udp" and "localaddr" not in values:
        raise Refusal("net-socket-udp")
    address = _host_and_port(values[way])
    if way == "mcast":
        _check_local(values.get("localaddr"))
        _check_group(address)
    if way == "udp":
        _host_and_port(values["localaddr"])
    if way in ("listen", "udp"):
        place = values[way if way == "listen" else "localaddr"].partition(":")
        _check_free(place[0], place[2], context, datagrams=way == "udp")


def _check_socket_file(name: str, number: int, rules: NetworkRules, context: NetworkContext) -> None:
    try:
        kind = context.computer.descriptor_kind(number)
    except OSError as error:
        if not rules.socket_kind_first:
            raise Refusal("descriptor-unusable", name=name, number=number, reason=error.strerror) from None
        kind = ""
    if kind != "socket":
        raise Refusal("net-socket-kind")


def _host_and_port(text: str) -> int | None:
    """The address in HOST:PORT; None for that of a host's name.

    :raise Refusal: there is none.
    """
    host, colon, port = text.partition(":")
    if not colon:
        raise Refusal("net-address-colon", text=text)
    return _checked_address(host, port)


def _checked_address(host: str, port: str) -> int | None:
    address: int | None = None if host else 0
    if is_digits(host[:1]):
        try:
            address = ipv4_of(host)
        except ValueError:
            raise Refusal("net-address", host=host) from None
    if not is_digits(port[:1]) and port[:1] not in ("-", "+", " "):
        raise Refusal("net-port", port=port)
    return address


def _check_free(host: str, port: str, context: NetworkContext, *, datagrams: bool) -> None:
    try:
        context.computer.check_bindable(host, port, datagrams=datagrams)
    except OSError as error:
        raise Refusal("net-bind", address=host or "0.0.0.0", reason=error.strerror) from None


def _check_local(text: str | None) -> None:
    if text is not None:
        try:
            ipv4_of(text)
        except ValueError:
            raise Refusal("net-address-local", host=text) from None


def _check_group(address: int | None) -> None:
    if address is not None and not is_multicast(address):
        shown = ".".join(str(address >> shift & 0xFF) for shift in (24, 16, 8, 0))
        raise Refusal("net-group", address=shown, number=f"0x{address:08x}")


def _datagrams(values: Values, _rules: NetworkRules, context: NetworkContext) -> None:
    local, remote = values.get("local"), values.get("remote")
    if remote is not None and remote["type"] == _INTERNET:
        address = _checked_address(remote["host"], remote["port"])
        if address is not None and is_multicast(address):
            return
    if local is None:
        raise Refusal("dgram-local")
    if remote is None and local["type"] != _FILE:
        raise Refusal("dgram-remote")
    if remote is not None and local["type"] == _FILE:
        raise Refusal("dgram-remote-file")
    if remote is not None and remote["type"] != local["type"]:
        raise Refusal("dgram-types")
    if local["type"] == _INTERNET:
        _checked_address(local["host"], local["port"])
        _check_free(local["host"], local["port"], context, datagrams=True)
    elif local["type"] == _FILE:
        number = context.asker.descriptor(local["str"])
        try:
            context.computer.descriptor_kind(number)
        except OSError as error:
            raise Refusal("descriptor-unusable", name=values["id"], number=number, reason=error.strerror) from None
    else:
        try:
            context.computer.check_folder(local["path"])
        except OSError as error:
            raise Refusal("net-bind-unix", path=local["path"], reason=error.strerror) from None


def _stream(values: Values, _rules: NetworkRules, _context: NetworkContext) -> None:
    if "reconnect" in values and "reconnect-ms" in values:
        raise Refusal("stream-reconnect-twice")
    if values.get("server") and ("reconnect" in values or "reconnect-ms" in values):
        raise Refusal("stream-reconnect")


def _vhost_user(values: Values, _rules: NetworkRules, context: NetworkContext) -> None:
    label = values["chardev"]
    chardev = context.chardevs.get(label)
    if chardev is None:
        raise Refusal("chardev-missing", id=label)
    if chardev.kind and chardev.kind != "socket":
        raise Refusal("vhost-user-chardev", id=label)
    if chardev.kind and not chardev.is_local:
        raise Refusal("vhost-user-files", id=label)
    if not 1 <= values.get("queues", 1) <= _MOST_QUEUES:
        raise Refusal("vhost-user-queues", most=_MOST_QUEUES)


def _vhost_vdpa(values: Values, _rules: NetworkRules, context: NetworkContext) -> None:
    if "vhostdev" in values and "vhostfd" in values:
        raise Refusal("vdpa-ways")
    if "vhostfd" in values:
        _check_vdpa_file(values["vhostfd"], context)
    elif "vhostdev" not in values:
        raise Refusal("vdpa-way-missing")
    else:
        try:
            context.computer.check_access(values["vhostdev"])
        except OSError as error:
            raise Refusal("vdpa-open", path=values["vhostdev"], reason=error.strerror) from None


def _check_vdpa_file(text: str, context: NetworkContext) -> None:
    try:
        number = context.asker.descriptor(text)
    except Refusal as error:
        raise Refusal("vdpa-descriptor", reason=error) from None
    reason = "Inappropriate ioctl for device"
    try:
        context.computer.descriptor_kind(number)
    except OSError as error:
        reason = error.strerror or reason
    raise Refusal("vdpa-features", reason=reason)


def _vde(_values: Values, _rules: NetworkRules, _context: NetworkContext) -> None:
    # Nobody runs a switch here.
    raise Refusal("vde")


def _passt(_values: Values, _rules: NetworkRules, _context: NetworkContext) -> None:
    # Nor is the program there that would be asked for help.
    raise Refusal("passt")


_RULES: dict[str, Callable[[Values, NetworkRules, NetworkContext], None]] = {
    "bridge": _bridge,
    "dgram": _datagrams,
    "passt": _passt,
    "socket": _socket,
    "stream": _stream,
    "tap": _tap,
    "vde": _vde,
    "vhost-user": _vhost_user,
    "vhost-vdpa": _vhost_vdpa,
}
