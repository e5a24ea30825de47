"""What a character device refuses before anything is opened for it.

The rules are the same whoever asks for the device.  (QEMU's chardev/char.c and the `open` functions beside it.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from qmpd.common.addresses import check_length, socket_path
from qmpd.common.refusals import NotModelled, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Backend = Mapping[str, Any]
    Data = Mapping[str, Any]

RINGS = ("ringbuf", "memory")
"""The kinds that keep what is written to them."""

_CHARDEV = "chardev"
# Kinds that are for QEMU's own use.
_INTERNAL = frozenset({"gdb"})
_SPICE = ("vdagent", "smartcard", "usbredir")
_DEFAULT_RING = 1 << 16


class Surroundings(Protocol):
    """What a device is to fit into: the machine's other devices and objects, and the release."""

    @property
    def client_wait_refused(self) -> bool:
        """Whether a socket that connects is refused where it is told whether to wait; else that is warned about."""

    def is_kind(self, kind: str) -> bool:
        """Whether the release has devices of this kind."""

    def has_chardev(self, label: str) -> bool:
        """Whether there is a device of this name."""

    def object_type(self, name: str) -> str | None:
        """The type of the user's object of this name; None where there is none."""

    def warn(self, code: str, /, **values: object) -> None:
        """Tell of something that is not refused."""


class Types(Protocol):
    """The types of a release's objects (`qmpd.qapi.object_types.ObjectTypes`)."""

    @property
    def names(self) -> list[str]:
        """All of them; none where nothing is known of them."""

    def is_a(self, name: str) -> frozenset[str]:
        """Everything that a type is."""


def is_driver(kind: str, types: Types) -> bool:
    """Whether a release with these types has devices of this kind; where nothing is known of them, any is taken."""
    return kind not in _INTERNAL and (not types.names or _CHARDEV in types.is_a(f"{_CHARDEV}-{kind}"))


def check_kind(kind: str, around: Surroundings) -> None:
    """Refuse a kind that there is not.

    :raise Refusal: it is none.
    """
    if not around.is_kind(kind):
        raise Refusal("chardev-kind", kind=kind)


def check(backend: Backend, around: Surroundings) -> None:
    """Refuse what cannot be opened, as far as that is seen without trying.

    :raise Refusal: it cannot.
    """
    rule = _RULES.get(backend["type"])
    if rule is not None:
        rule(backend.get("data", {}), around)


def ring_size(data: Data) -> int:
    """How many bytes a ring holds."""
    size: int = data.get("size", _DEFAULT_RING)
    return size


def _ring(data: Data, _: Surroundings) -> None:
    size = ring_size(data)
    if size & (size - 1):
        raise Refusal("chardev-ring-size")


def _multiplexer(data: Data, around: Surroundings) -> None:
    if not around.has_chardev(data["chardev"]):
        raise Refusal("chardev-mux-base", id=data["chardev"])


def _hub(data: Data, around: Surroundings) -> None:
    for name in data["chardevs"]:
        if not around.has_chardev(name):
            raise Refusal("chardev-hub-part", id=name)


def _spice_channel(data: Data, _: Surroundings) -> None:
    if data["type"] not in _SPICE:
        raise Refusal("chardev-spice-type", type=data["type"], known=", ".join(_SPICE))


def _braille(_data: Data, _: Surroundings) -> None:
    # There is no service for Braille here.
    raise Refusal("chardev-braille")


def _datagrams(data: Data, _: Surroundings) -> None:
    for name in ("local", "remote"):
        address = data.get(name)
        if address is not None and address["type"] == "inet":
            check_internet(address["data"])


def _socket(data: Data, around: Surroundings) -> None:
    address, listens = data["addr"], data.get("server", True)
    if "tls-creds" in data:
        _check_credentials(data["tls-creds"], around, listens=listens)
    if address["type"] == "fd" and ("reconnect" in data or "reconnect-ms" in data):
        raise Refusal("chardev-socket-fd", name=_reconnecting(data))
    if "tls-creds" in data and address["type"] == "fd" and not listens:
        raise Refusal("chardev-socket-fd-tls")
    if "tls-authz" in data and "tls-creds" not in data:
        raise Refusal("chardev-socket-authz")
    if listens and ("reconnect" in data or "reconnect-ms" in data):
        raise Refusal("chardev-socket-listens", name=_reconnecting(data))
    if not listens:
        _check_client(data, around)
    if address["type"] == "unix":
        check_length(socket_path(address["data"]))
    elif address["type"] == "inet":
        check_internet(address["data"])
    if "tls-creds" in data:
        raise NotModelled("TLS on character devices")


def _check_client(data: Data, around: Surroundings) -> None:
    if data.get("websocket"):
        raise Refusal("chardev-socket-websocket")
    if "wait" in data:
        if around.client_wait_refused:
            raise Refusal("chardev-socket-wait")
        around.warn("chardev-socket-wait-deprecated")


def _reconnecting(data: Data) -> str:
    return "reconnect" if "reconnect" in data else "reconnect-ms"


def _check_credentials(name: str, around: Surroundings, *, listens: bool) -> None:
    del listens
    kind = around.object_type(name)
    if kind is None:
        raise Refusal("credentials-missing", id=name)
    if not kind.startswith("tls-creds-"):
        raise Refusal("credentials-none", id=name)


def check_internet(data: Data) -> None:
    """Refuse an internet address that can have no family.

    :raise Refusal: it is one.
    """
    if data.get("ipv4", True) is data.get("ipv6", True) is False:
        raise Refusal("socket-families")


_RULES: dict[str, Callable[[Data, Surroundings], None]] = {
    "braille": _braille,
    "hub": _hub,
    "memory": _ring,
    "mux": _multiplexer,
    "ringbuf": _ring,
    "socket": _socket,
    "spicevmc": _spice_channel,
    "udp": _datagrams,
}
