"""Reading a character device's options: the list that `-chardev` and the human monitor take, and its short form.

What comes out is the backend as `chardev-add` has it.  (QEMU's chardev/char.c and the `parse` functions beside it.)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.chardev.rules import check_kind
from qmpd.common.integers import from_digits
from qmpd.common.refusals import Refusal
from qmpd.common.scalars import boolean_of, integer_of, size_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.chardev.rules import Surroundings

    Backend = dict[str, Any]
    Options = Mapping[str, str]
    Reader = Callable[[Options, "OptionRules"], dict[str, Any]]

_WARNED, _REFUSED = "warned", "refused"
_ALIASES = {"tty": "serial", "parport": "parallel"}
_COMMON: dict[str, Callable[[str], object]] = {"logfile": str, "logappend": boolean_of}
_INT_LIMIT = 1 << 31
_HALF = 1 << 63
_PORT = re.compile(r"chardevs\.([0-9]+)")


class OptionRules(Protocol):
    """What releases differ in (`qmpd.qapi.behaviour.Behaviour`)."""

    @property
    def chardev_aliases(self) -> str:
        """What becomes of the second names of some kinds: `taken`, `warned` about or `refused`."""

    @property
    def chardev_without_address(self) -> bool:
        """Whether a socket needs no address."""

    @property
    def size_language(self) -> str:
        """How sizes are read (`qmpd.common.scalars`)."""


def new_backend(label: str | None, options: Options, around: Surroundings, rules: OptionRules) -> Backend:
    """The backend that a list of options describes, `backend` among them, for a new device of this name.

    The options are of the types that the release's group of them declares.

    :raise Refusal: there is no such kind, or something is missing, or excludes something else.
    """
    kind = options.get("backend")
    if label is None:
        raise Refusal("chardev-unnamed")
    if kind is None:
        raise Refusal("chardev-kind-missing", id=label)
    if kind in _ALIASES and rules.chardev_aliases != _REFUSED:
        if rules.chardev_aliases == _WARNED:
            around.warn("chardev-alias", kind=kind, instead=_ALIASES[kind])
        kind = _ALIASES[kind]
    check_kind(kind, around)
    reader = _READERS.get(kind)
    data = {} if reader is None else reader(options, rules)
    common = {name: read_value(options[name]) for name, read_value in _COMMON.items() if name in options}
    return {"type": kind, "data": {**common, **data}}


def is_shared(options: Options) -> bool:
    """Whether a list of options asks for a multiplexer on the device that it describes (`mux=on`)."""
    return "mux" in options and boolean_of(options["mux"])


def _needed(options: Options, key: str, code: str) -> str:
    if key not in options:
        raise Refusal(code)
    return options[key]


def _flags(options: Options, *names: str) -> dict[str, bool]:
    return {name: boolean_of(options[name]) for name in names if name in options}


def _numbers(options: Options, *names: str) -> dict[str, int]:
    """Numbers as QAPI has them: of 64 bits with a sign, whatever was written."""
    return {name: (integer_of(options[name]) + _HALF) % (2 * _HALF) - _HALF for name in names if name in options}


def _file(options: Options, _: OptionRules) -> dict[str, Any]:
    read = {"in": options["input-path"]} if "input-path" in options else {}
    return {"out": _needed(options, "path", "chardev-file-name"), **read, **_flags(options, "append")}


def _host_device(code: str) -> Reader:
    def read(options: Options, _: OptionRules) -> dict[str, Any]:
        return {"device": _needed(options, "path", code)}

    return read


def _ring(options: Options, rules: OptionRules) -> dict[str, Any]:
    # QEMU keeps 32 bits of it.
    size = (
        (size_of(options["size"], rules.size_language) + _INT_LIMIT) % (2 * _INT_LIMIT) - _INT_LIMIT
        if "size" in options
        else 0
    )
    return {"size": size} if size else {}


def _console(options: Options, _: OptionRules) -> dict[str, Any]:
    return _numbers(options, "width", "height", "cols", "rows")


def _standard(options: Options, _: OptionRules) -> dict[str, Any]:
    return {"signal": True, **_flags(options, "signal")}


def _multiplexer(options: Options, _: OptionRules) -> dict[str, Any]:
    return {"chardev": _needed(options, "chardev", "chardev-mux-base-unnamed")}


def _hub(options: Options, _: OptionRules) -> dict[str, Any]:
    listed = {
        from_digits(match[1]): name for key, name in options.items() if (match := _PORT.fullmatch(key)) is not None
    }
    if not listed:
        raise Refusal("chardev-hub-empty")
    return {"chardevs": [listed[number] for number in sorted(listed)]}


def _spice_channel(options: Options, _: OptionRules) -> dict[str, Any]:
    return {"type": _named(options, "chardev-spice-channel-name")}


def _spice_port(options: Options, _: OptionRules) -> dict[str, Any]:
    return {"fqdn": _named(options, "chardev-spice-port-name")}


def _bus(options: Options, _: OptionRules) -> dict[str, Any]:
    return {"name": _named(options, "chardev-dbus-name")}


def _named(options: Options, code: str) -> str:
    if not options.get("name"):
        raise Refusal(code)
    return options["name"]


def _datagrams(options: Options, _: OptionRules) -> dict[str, Any]:
    if not options.get("port"):
        raise Refusal("chardev-udp-port")
    remote = {"host": options.get("host") or "localhost", "port": options["port"], **_flags(options, "ipv4", "ipv6")}
    data: dict[str, Any] = {"remote": {"type": "inet", "data": remote}}
    host, port = options.get("localaddr"), options.get("localport")
    if host is not None or port is not None:
        data["local"] = {"type": "inet", "data": {"host": host or "", "port": port or "0"}}
    return data


def _clipboard(options: Options, _: OptionRules) -> dict[str, Any]:
    return _flags(options, "mouse", "clipboard")


def _socket(options: Options, rules: OptionRules) -> dict[str, Any]:
    given = [key for key in ("path", "fd", "host") if key in options]
    if len(given) > 1 or not (given or rules.chardev_without_address):
        raise Refusal("chardev-socket-address")
    if "host" in options and "port" not in options:
        raise Refusal("chardev-socket-port")
    if "delay" in options and "nodelay" in options:
        raise Refusal("chardev-socket-delay")
    if "reconnect" in options and "reconnect-ms" in options:
        raise Refusal("chardev-socket-reconnect-twice")
    data: dict[str, Any] = {"addr": _address(options), "server": False}
    data |= _flags(options, "server", "nodelay", "telnet", "tn3270", "websocket", "wait")
    if "delay" in options:
        data["nodelay"] = not boolean_of(options["delay"])
    if data["server"]:
        data.setdefault("wait", True)
    data |= _numbers(options, "reconnect", "reconnect-ms")
    return data | {name: options[name] for name in ("tls-creds", "tls-authz") if name in options}


def _address(options: Options) -> dict[str, Any]:
    if "path" in options:
        return {"type": "unix", "data": {"path": options["path"], **_flags(options, "abstract", "tight")}}
    if "host" in options:
        data = {"host": options["host"], "port": options["port"], **_flags(options, "ipv4", "ipv6")}
        return {"type": "inet", "data": data | _numbers(options, "to")}
    return {"type": "fd", "data": {"str": options.get("fd", "")}}


_READERS: dict[str, Reader] = {
    "dbus": _bus,
    "file": _file,
    "hub": _hub,
    "memory": _ring,
    "mux": _multiplexer,
    "parallel": _host_device("chardev-parallel-path"),
    "pipe": _host_device("chardev-pipe-path"),
    "qemu-vdagent": _clipboard,
    "ringbuf": _ring,
    "serial": _host_device("chardev-serial-path"),
    "socket": _socket,
    "spiceport": _spice_port,
    "spicevmc": _spice_channel,
    "stdio": _standard,
    "udp": _datagrams,
    "vc": _console,
}
