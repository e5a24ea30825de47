"""Addresses: those of the Internet as the C library reads them, and paths of sockets."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from qmpd.common.integers import INTEGER_RANGES, from_digits, is_digits
from qmpd.common.refusals import Refusal, Worded
from qmpd.common.scalars import SPACE, integer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH_LIMIT = 108
"""Bytes that a socket's path is shorter than, its final NUL being one (sockaddr_un)."""

_PARTS = 4
_OCTET = 8
_BITS = 32
_NUMBER = re.compile(r"\s*[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", re.ASCII)


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


def port_of(text: str) -> int:
    """The port that a text begins with, as strtol(3) and htons(3) have it; 0 where there is no number."""
    match = _NUMBER.match(text)
    return integer_of(match[0]) & 0xFFFF if match is not None else 0


def is_multicast(address: int) -> bool:
    """Whether an IPv4 address is one of a group."""
    return address >> 28 == 0b1110


def socket_path(address: Mapping[str, Any]) -> str:
    """Where the kernel finds the socket of QAPI's UnixSocketAddress: its path.

    A name that is in no file system (`abstract`) stands behind a NUL, unless it is `tight` with NULs up to where the
    longest path ends (unix(7)).
    """
    path = str(address["path"])
    if not address.get("abstract"):
        return path
    length = 1 + len(_bytes(path))
    return f"\0{path}" + ("" if address.get("tight", True) else "\0" * (PATH_LIMIT - length))


def is_abstract(path: str) -> bool:
    """Whether this is where a socket is that is in no file system (`socket_path`)."""
    return path[:1] == "\0"


def socket_name(path: str) -> str:
    """What a socket at this place (`socket_path`) is called in messages."""
    return path.strip("\0") if is_abstract(path) else path


def socket_place(path: str | bytes) -> str:
    """The place of a socket (`socket_path`) that its address has; nothing for one that has none."""
    return path if isinstance(path, str) else path.decode("utf-8", "surrogateescape")


def is_too_long(path: str) -> bool:
    """Whether a place of a socket (`socket_path`) is too long for its address; a name needs no NUL at its end."""
    return len(_bytes(path)) >= PATH_LIMIT + is_abstract(path)


def check_length(path: str) -> None:
    """Refuse a place of a socket (`socket_path`) that is too long for its address.

    :raise Refusal: it is.
    """
    if is_too_long(path):
        raise Refusal("socket-path-too-long", path=socket_name(path), limit=PATH_LIMIT - is_abstract(path))


def describe_unix(path: str, flag: str) -> str:
    """What query-chardev calls a Unix socket at this place (`socket_path`) while nobody is connected.

    :param flag: what the release has behind a flag.
    """
    if not is_abstract(path):
        return f"unix:{path}"
    tight = f",tight{flag}" if _is_tight(path) else ""
    return f"unix:{socket_name(path)},abstract{flag}{tight}"


def unix_address(path: str) -> dict[str, Any]:
    """The place of a socket (`socket_path`) as QAPI's UnixSocketAddress."""
    if not is_abstract(path):
        return {"path": path}
    return {"path": socket_name(path), "abstract": True, "tight": _is_tight(path)}


def _is_tight(path: str) -> bool:
    return len(_bytes(path)) < PATH_LIMIT


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


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
