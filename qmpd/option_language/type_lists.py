"""The lists of properties that QEMU prints for `-device e1000,help`, `-object secret,help` and their twins.

Those of devices are made of what is known about the types; those of objects were captured.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from qmpd.common.refusals import NotModelled, Worded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qmpd.qapi.release import Release

_WIDTH = 24
_SWITCHES = {True: "on", False: "off"}


def device_options(release: Release, driver: str) -> str:
    """The properties of a type of device, which may be called by its other name.

    :raise Refusal: there is none of this name, or no device of its own.
    """
    alias = release.hardware.find("alias", driver)
    kind = driver if alias is None else alias["type"]
    reply = release.captured("device-list-properties", {"typename": kind}, "none", {})
    if reply is None:
        raise NotModelled(f"the list of options of {kind}")
    if not isinstance(reply, bytes):
        raise Worded(reply.description)
    return _described(release, kind, orjson.loads(reply))


def object_options(release: Release, kind: str) -> str | None:
    """The properties of a type of object that a user can make; None where it is none.

    :raise NotModelled: what the program prints of it was not captured.
    """
    if "user-creatable" not in release.object_types.is_a(kind):
        return None
    found = release.command_line.text("-object", f"{kind},help", program="")
    if found is None:
        raise NotModelled(f"the list of options of {kind}")
    return found[0]


def properties_of(release: Release, of: str, kind: str) -> list[dict[str, Any]]:
    """What `qom-list-properties` or `device-list-properties` answers for a type; none where it is not known."""
    reply = release.captured(f"{of}-list-properties", {"typename": kind}, "none", {})
    found: list[dict[str, Any]] = orjson.loads(reply) if isinstance(reply, bytes) else []
    return found


def _described(release: Release, kind: str, properties: Iterable[dict[str, Any]]) -> str:
    lines = sorted(_line(release, each) for each in properties)
    if not lines:
        return f"There are no options for {kind}.\n"
    return "".join([f"{kind} options:\n", *(f"{line}\n" for line in lines)])


def _line(release: Release, shown: dict[str, Any]) -> str:
    line = f"  {shown['name']}=<{shown['type']}>"
    description, default = shown.get("description"), shown.get("default-value")
    if description is not None or default is not None:
        line = f"{line:<{_WIDTH}} - {description or ''}"
    return line if default is None else f"{line} (default: {_default(default, plain=release.behaviour.defaults_plain)})"


def _default(value: object, *, plain: bool) -> str:
    if plain and isinstance(value, bool):
        return _SWITCHES[value]
    return value if plain and isinstance(value, str) else json.dumps(value)
