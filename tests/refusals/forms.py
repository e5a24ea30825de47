"""One question in the languages of the doors: what an option of QEMU's command line is elsewhere.

These readers know nothing of what a key means; whatever is not understood goes on as it is, for both sides to refuse.
"""

from __future__ import annotations

import json
import re
from typing import Any

_COMMANDS = {
    "device": ("device_add", "driver"),
    "object": ("object-add", "qom-type"),
    "netdev": ("netdev_add", "type"),
    "blockdev": ("blockdev-add", "driver"),
    "chardev": ("chardev-add", "backend"),
    "numa": ("set-numa-node", "type"),
}
"""The command that does what an option does, and the option's key that need not be written."""
_JSON = frozenset({"device", "object", "netdev", "blockdev"})
_HUMAN = {"device": "device_add", "object": "object_add", "netdev": "netdev_add", "chardev": "chardev-add"}
_SECTIONS = {
    "accel": ("accel", "accel"),
    "action": ("action", None),
    "boot": ("boot-opts", "order"),
    "chardev": ("chardev", "backend"),
    "device": ("device", "driver"),
    "drive": ("drive", None),
    "fsdev": ("fsdev", "fsdriver"),
    "icount": ("icount", "shift"),
    "m": ("memory", "size"),
    "machine": ("machine", "type"),
    "mon": ("mon", "chardev"),
    "name": ("name", "guest"),
    "netdev": ("netdev", "type"),
    "numa": ("numa", "type"),
    "object": ("object", "qom-type"),
    "rtc": ("rtc", "base"),
    "smp": ("smp-opts", "cpus"),
}
"""The group of an option in a file of -readconfig, and its key that need not be written."""
# What backends take as text, even where it looks like a number.
_NETDEV_TEXT = frozenset({"fd", "fds", "vhostfd", "vhostfds", "str", "port"})
_LISTS = frozenset({"hostfwd", "guestfwd", "dnssearch"})


def pairs(text: str, implied: str | None) -> list[tuple[str, str]]:
    """The keys and values of a list; a key without a value is on."""
    pieces = [piece.replace("\0", ",") for piece in text.replace(",,", "\0").split(",")] if text else []
    found = []
    for number, piece in enumerate(pieces):
        key, equals, value = piece.partition("=")
        if equals:
            found.append((key, value))
        else:
            found.append((implied, piece) if number == 0 and implied is not None else (key, "on"))
    return found


def typed(value: str) -> Any:
    """A value as JSON would have it, as far as its looks tell."""
    if value in ("on", "off"):
        return value == "on"
    return int(value) if re.fullmatch(r"-?[0-9]{1,20}", value) else value


def nested(listed: list[tuple[str, str]], *, types: bool = True) -> dict[str, Any]:
    """The tree that keys with dots make; what is numbered from 0 is a list."""
    root: dict[str, Any] = {}
    for key, value in listed:
        *branches, leaf = key.split(".")
        place = root
        for branch in branches:
            place = place.setdefault(branch, {})
            if not isinstance(place, dict):
                break
        else:
            place[leaf] = typed(value) if types else value
    return {key: _listed(value) for key, value in root.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(each) for key, each in value.items()}
    return [inner[str(number)] for number in range(len(inner))] if inner and set(inner) == {
        str(number) for number in range(len(inner))
    } else inner  # fmt: skip


def arguments_of(option: str, text: str) -> dict[str, Any]:
    """The arguments of the command that does what the option does."""
    listed = pairs(text, _COMMANDS[option][1])
    if option == "chardev":
        return _chardev(dict(listed))
    found = nested([pair for pair in listed if pair[0] not in _LISTS])
    for key, value in listed:
        if key in _LISTS:
            found.setdefault(key, []).append({"str": value})
    if option == "numa" and isinstance(found.get("cpus"), str):
        first, _, last = found["cpus"].partition("-")
        found["cpus"] = list(range(int(first), int(last) + 1))
    elif option == "numa" and isinstance(found.get("cpus"), int):
        found["cpus"] = [found["cpus"]]
    if option == "netdev":
        _keep_text(found, _NETDEV_TEXT)
    if option == "device":
        # What is told apart from numbers by its property alone is text, as clients send it.
        found.update({key: str(value) for key, value in listed if key in ("id", "addr", "mac", "serial", "bus")})
    return found


def _keep_text(found: dict[str, Any], names: frozenset[str]) -> None:
    for name, value in found.items():
        if isinstance(value, dict):
            _keep_text(value, names)
        elif name in names and not isinstance(value, (list, str)):
            found[name] = str(value)


def command_of(option: str, text: str) -> dict[str, Any] | None:
    """The QMP command; None where there is none."""
    if option not in _COMMANDS or option == "numa":
        return None
    return {"execute": _COMMANDS[option][0], "arguments": arguments_of(option, text)}


def json_of(option: str, text: str) -> list[str] | None:
    """The option with a JSON object; None where it takes none."""
    return [f"-{option}", json.dumps(arguments_of(option, text))] if option in _JSON else None


def human_of(option: str, text: str) -> str | None:
    """The human monitor's line; None where it has none."""
    if option == "drive":
        return f"drive_add 0 {text}"
    # Blanks end an argument here.
    return f"{_HUMAN[option]} {text}" if option in _HUMAN and not re.search(r"\s", text) else None


def section_of(option: str, text: str) -> str | None:
    """A file for -readconfig; None where the option has no group, or a value cannot be written there."""
    if option not in _SECTIONS or '"' in text:
        return None
    group, implied = _SECTIONS[option]
    listed = pairs(text, implied)
    name = next((value for key, value in listed if key == "id"), None)
    if not listed or name == "":
        return None
    lines = [f"[{group}]" if name is None else f'[{group} "{name}"]']
    lines += [f'  {key} = "{value}"' for key, value in listed if key != "id"]
    return "\n".join(lines) + "\n"


# -- character devices: a list of keys here, a tree there

_SIMPLE = {
    "file": {"path": "out", "input-path": "in", "append": "append"},
    "pipe": {"path": "device"},
    "serial": {"path": "device"},
    "tty": {"path": "device"},
    "parallel": {"path": "device"},
    "parport": {"path": "device"},
    "spicevmc": {"name": "type"},
    "spiceport": {"name": "fqdn"},
}
_INET = ("host", "port", "to", "ipv4", "ipv6")
_TOP = ("id", "backend")


def _chardev(given: dict[str, str]) -> dict[str, Any]:
    kind = given.get("backend", "")
    left = {key: value for key, value in given.items() if key not in _TOP}
    if kind == "socket":
        data = _socket(left)
    elif kind == "udp":
        data = _datagrams(left)
    else:
        names = _SIMPLE.get(kind, {})
        data = nested([(names.get(key, key), value) for key, value in left.items()])
        # Paths and names are text, whatever they look like.
        texts = names.keys() & {"path", "input-path", "name"}
        data.update({names[key]: value for key, value in left.items() if key in texts})
    found: dict[str, Any] = {"id": given["id"]} if "id" in given else {}
    return {**found, "backend": {"type": kind, "data": data}}


def _socket(left: dict[str, str]) -> dict[str, Any]:
    address: dict[str, Any] = {}
    if "path" in left:
        inner: dict[str, Any] = {key: typed(value) for key, value in left.items() if key in ("abstract", "tight")}
        address = {"type": "unix", "data": {"path": left["path"], **inner}}
    elif "host" in left or "port" in left:
        inner = {key: typed(left[key]) for key in _INET[2:] if key in left}
        named = {key: left[key] for key in _INET[:2] if key in left}
        address = {"type": "inet", "data": {**named, **inner}}
    elif "fd" in left:
        address = {"type": "fd", "data": {"str": left["fd"]}}
    taken = (*_INET, "path", "abstract", "tight", "fd")
    others = {key: typed(value) for key, value in left.items() if key not in taken}
    return {**({"addr": address} if address else {}), **others}


def _datagrams(left: dict[str, str]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for name, host, port in (("remote", "host", "port"), ("local", "localaddr", "localport")):
        if host in left or port in left:
            inner = {key: left[there] for key, there in (("host", host), ("port", port)) if there in left}
            data[name] = {"type": "inet", "data": inner}
    taken = ("host", "port", "localaddr", "localport")
    return {**data, **{key: typed(value) for key, value in left.items() if key not in taken}}
