"""Addresses: those of the Internet as the C library reads them, and paths of sockets."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from qmpd.common.integers import INTEGER_RANGES, from_digits, is_digits
from qmpd.common.refusals import NotModelled, Worded
from qmpd.common.scalars import SPACE, integer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_PARTS = 4
_OCTET = 8
_BITS = 32


def ipv4_of(text: str) -> int:
    """The address that inet_aton(3) makes of a text: up to four numbers, the last of which fills the rest.

    :raise ValueError: it is none.
    """
    parts = text.rstrip(SPACE).split(".")
    if not 1 <= len(parts) <= _PARTS or any(part[:1] not in "0123456789" or not part for part in parts):
        raise ValueError(text)
    *octets, last = map(integer_of, parts)
    left = _BITS - _OCTET * len(octets)
    if any(octet >> _OCTET for octet in octets) or last >> left:
        raise ValueError(text)
    address = 0
    for octet in octets:
        address = address << _OCTET | octet
    return address << left | last


def ipv6_of(text: str) -> int:
    """The address that inet_pton(3) makes of a text.

    :raise ValueError: it is none.
    """
    return int(ipaddress.IPv6Address(text))


def is_multicast(address: int) -> bool:
    """Whether an IPv4 address is one of a group."""
    return address >> 28 == 0b1110


def socket_path(address: Mapping[str, Any]) -> str:
    """The path of QAPI's UnixSocketAddress.

    :raise NotModelled: it is no path, but a name that is in no file system (`abstract`).
    """
    if address.get("abstract"):
        raise NotModelled("abstract sockets")
    return str(address["path"])


def vsock_place(address: Mapping[str, Any]) -> tuple[int, int]:
    """The computer and the port of QAPI's VsockSocketAddress: two numbers of 32 bits, as measured on all releases.

    :raise Worded: one is no such number.
    """
    most = INTEGER_RANGES["uint32"][1]
    for what in ("cid", "port"):
        text = str(address[what])
        if not is_digits(text) or from_digits(text) > most:
            raise Worded(f"Failed to parse {what} '{text}'")
    return from_digits(str(address["cid"])), from_digits(str(address["port"]))
