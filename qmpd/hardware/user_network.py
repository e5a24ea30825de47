"""What QEMU's user mode network (`-netdev user`) refuses, and the connections that it forwards (net/slirp.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.common.addresses import ipv4_of, ipv6_of
from qmpd.common.refusals import Refusal
from qmpd.common.scalars import integer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.common.computer import Computer

    Values = Mapping[str, Any]

_SERVER = "/usr/sbin/smbd"
_ALL = 0xFFFFFFFF
_LARGEST_PORT = 0xFFFF
_LEAST_LENGTH, _MOST_LENGTH = 4, 32
_MOST_IPV6_LENGTH = 126
_LONGEST = 255
# The network that there is where none is asked for, and where a network's own addresses are in it.
_NETWORK, _MASK = 0x0A000200, 0xFFFFFF00
_HOST, _NAME_SERVER, _DHCP = 0x0202, 0x0203, 0x020F
# Networks without a mask, by the bits that an address of them begins with (net/slirp.c): the first that fits counts.
_CLASSES = (
    (0x80000000, 0x00000000, 0xFF000000),
    (0xFFF00000, 0xAC100000, 0xFFF00000),
    (0xC0000000, 0x80000000, 0xFFFF0000),
    (0xFFFF0000, 0xC0A80000, 0xFFFF0000),
    (0xFFFF0000, 0xC6120000, 0xFFFE0000),
    (0xE0000000, 0xE0000000, 0xFFFFFF00),
)
_NO_CLASS = 0xFFFFFFF0


class Forward(NamedTuple):
    """A port of the host that is forwarded to the guest; an address is 0 where none was given, `rule` what was."""

    is_udp: bool
    address: int
    port: int
    rule: str

    def is_for(self, other: Forward) -> bool:
        """Whether both are of the same port, address and protocol."""
        return self[:3] == other[:3]

    def collides(self, other: Forward) -> bool:
        """Whether both need the same port of the host."""
        addresses = {self.address, other.address}
        is_same = self.port == other.port and self.is_udp is other.is_udp
        return is_same and self.port != 0 and (0 in addresses or len(addresses) == 1)


class _Network(NamedTuple):
    address: int
    mask: int
    host: int
    name_server: int

    def has(self, address: int) -> bool:
        return address & self.mask == self.address


def check(values: Values, computer: Computer, *, to_host: bool) -> list[Forward]:
    """Refuse what a user network refuses; gives what it forwards.

    `to_host`: the guest's connections to the host's own address may be forwarded, too.

    :raise Refusal: it refuses.
    """
    _check_families(values)
    network = _ipv4_network(values)
    _check_ipv6(values)
    _check_names(values)
    if "smbserver" in values:
        _address(values["smbserver"], "user-smb-address")
    forwards = []
    for kind, rule in _rules(values):
        if kind == "hostfwd":
            forwards.append(forwarding(rule))
        else:
            _check_guest_forwarding(rule, network, to_host=to_host)
    if "smb" in values:
        try:
            computer.check_access(_SERVER)
        except OSError:
            raise Refusal("user-smb-missing", path=_SERVER) from None
    return forwards


def _check_families(values: Values) -> None:
    # Where one of them is asked for the other is there only if it is, too.
    ipv4, ipv6 = values.get("ipv4"), values.get("ipv6")
    if ipv4 is None and ipv6 is None:
        ipv4 = ipv6 = True
    has_ipv4 = (not ipv6) if ipv4 is None else ipv4
    has_ipv6 = (not ipv4) if ipv6 is None else ipv6
    if not has_ipv4 and any(name in values for name in ("net", "host", "dns")):
        raise Refusal("user-ipv4-disabled")
    if not has_ipv6 and any(name in values for name in ("ipv6-prefix", "ipv6-host", "ipv6-dns")):
        raise Refusal("user-ipv6-disabled")
    if not has_ipv4 and not has_ipv6:
        raise Refusal("user-families")


def _address(text: str, code: str, read: Callable[[str], int] = ipv4_of) -> int:
    try:
        return read(text)
    except ValueError:
        raise Refusal(code) from None


def _ipv4_network(values: Values) -> _Network:
    address, mask = _NETWORK, _MASK
    if "net" in values:
        address, mask = _mask(values["net"])
    address &= mask
    host, name_server, dhcp = (address | (last & ~mask & _ALL) for last in (_HOST, _NAME_SERVER, _DHCP))
    if "host" in values:
        host = _address(values["host"], "user-host")
    if host & mask != address:
        raise Refusal("user-host-outside")
    if "dns" in values:
        name_server = _address(values["dns"], "user-dns")
    if values.get("restrict") and name_server & mask != address:
        raise Refusal("user-dns-outside")
    if name_server == host:
        raise Refusal("user-dns-host")
    if "dhcpstart" in values:
        dhcp = _address(values["dhcpstart"], "user-dhcp")
    if dhcp & mask != address:
        raise Refusal("user-dhcp-outside")
    if dhcp in (host, name_server):
        raise Refusal("user-dhcp-taken")
    return _Network(address, mask, host, name_server)


def _mask(text: str) -> tuple[int, int]:
    """The address of a network and its mask."""
    before, slash, length = text.partition("/")
    address = _address(before, "user-net")
    if not slash:
        found = next((mask for bits, wanted, mask in _CLASSES if address & bits == wanted), _NO_CLASS)
        return address, found
    try:
        number = int(length.strip() or "0")
    except ValueError:
        return address, _address(length, "user-net-rest")
    if not _LEAST_LENGTH <= number <= _MOST_LENGTH:
        raise Refusal("user-net-mask")
    return address, _ALL << (_MOST_LENGTH - number) & _ALL


def _check_ipv6(values: Values) -> None:
    prefix = _address(values.get("ipv6-prefix", "fec0::"), "user-ipv6-prefix", ipv6_of)
    length = values.get("ipv6-prefixlen") or 64
    if not 0 <= length <= _MOST_IPV6_LENGTH:
        raise Refusal("user-ipv6-length")

    def is_inside(address: int) -> bool:
        return address >> (128 - length) == prefix >> (128 - length)

    if "ipv6-host" in values and not is_inside(_address(values["ipv6-host"], "user-ipv6-host", ipv6_of)):
        raise Refusal("user-ipv6-host-outside")
    if "ipv6-dns" in values:
        server = _address(values["ipv6-dns"], "user-ipv6-dns", ipv6_of)
        if values.get("restrict") and not is_inside(server):
            raise Refusal("user-ipv6-dns-outside")


def _check_names(values: Values) -> None:
    if values.get("domainname") == "":
        raise Refusal("user-domain-empty")
    for name in ("domainname", "hostname", "tftp-server-name"):
        if len(values.get(name, "").encode()) > _LONGEST:
            raise Refusal("user-name-too-long", name="vhostname" if name == "hostname" else name)


def _rules(values: Values) -> list[tuple[str, str]]:
    """The rules that forward something, in the order in which they are set up: the last that was given first."""
    found = [(kind, rule["str"]) for kind in ("hostfwd", "guestfwd") for rule in values.get(kind, ())]
    return found[::-1]


def _port(text: str, least: int, base_of: Callable[[str], int] = integer_of) -> int | None:
    try:
        number = base_of(text)
    except ValueError:
        return None
    return number if least <= number <= _LARGEST_PORT else None


def forwarding(rule: str) -> Forward:
    """The port that `hostfwd=RULE` forwards.

    :raise Refusal: it is no rule.
    """
    protocol, colon, rest = rule.partition(":")
    if not colon:
        raise Refusal("forward-colons", rule=rule)
    if protocol not in ("tcp", "udp", ""):
        raise Refusal("forward-protocol", rule=rule)
    host, colon, rest = rest.partition(":")
    if not colon:
        raise Refusal("forward-colon", rule=rule)
    address = _forward_address(host, "forward-host-address", rule)
    text, dash, rest = rest.partition("-")
    if not dash:
        raise Refusal("forward-dash", rule=rule)
    port = 0 if not text else _port(text, 0)
    if port is None:
        raise Refusal("forward-host-port", rule=rule)
    guest, colon, text = rest.partition(":")
    if not colon:
        raise Refusal("forward-guest-missing", rule=rule)
    _forward_address(guest, "forward-guest-address", rule)
    if _port(text, 1) is None:
        raise Refusal("forward-guest-port", rule=rule)
    return Forward(protocol == "udp", address, port, rule)


def _forward_address(text: str, code: str, rule: str) -> int:
    try:
        return ipv4_of(text) if text else 0
    except ValueError:
        raise Refusal(code, rule=rule) from None


def forwarded(text: str) -> Forward:
    """The port that a text names whose forwarding is to end.

    :raise ValueError: it names none.
    """
    protocol, colon, rest = text.partition(":")
    host, second, port = rest.partition(":")
    number = _port(port, -(1 << 31), int)
    if not colon or not second or protocol not in ("tcp", "udp", "") or number is None:
        raise ValueError(text)
    return Forward(protocol == "udp", ipv4_of(host) if host else 0, number, text)


def _check_guest_forwarding(rule: str, network: _Network, *, to_host: bool) -> None:
    wrong = Refusal("guest-forward", rule=rule)
    protocol, colon, rest = rule.partition(":")
    server, second, rest = rest.partition(":")
    port, dash, _ = rest.partition("-")
    if not (colon and second and dash) or protocol not in ("tcp", "") or _port(port, 1, int) is None:
        raise wrong
    if not server:
        return
    try:
        address = ipv4_of(server)
    except ValueError:
        raise wrong from None
    taken = (network.name_server,) if to_host else (network.host, network.name_server)
    if not network.has(address) or address in taken:
        raise Refusal("guest-forward-conflict", rule=rule)
