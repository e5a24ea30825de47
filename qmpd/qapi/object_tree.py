"""The QOM objects of the reference machines: what qom-list, qom-get and qom-list-get say of them.

They are kept in a file of lines, one for each object:

    {"path": "/machine", "machine": "pc", "properties": [{"name": ..., "type": ...}, ...], "values": {...}}

`properties` is the reply to qom-list, `values` has the property's value where there is one that other processes have as
well (markers as in `qmpd.qapi.captured`) and `errors` the text of qom-get where it refuses. Lines with `unknown` have
the replies to what does not exist: `"path"`, `"ambiguous"` (a partial path that fits several objects) and `"property"`.
(How paths are resolved: QEMU's qom/object.c, and the replies of the real programs.)
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from qmpd.qapi.captured import REPLY

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMANDS = ("qom-list", "qom-get", "qom-list-get")
"""The commands that the objects answer."""


class ObjectTree:
    """The objects of one reference machine, by path."""

    def __init__(self, lines: list[bytes], machine: str) -> None:
        """Take the lines that are about this machine."""
        self.objects: dict[str, dict[str, Any]] = {}
        self._unknown: dict[str, bytes] = {}
        for line in lines:
            head, _, reply = line.partition(REPLY)
            if reply:
                self._unknown[orjson.loads(head + b"}")["unknown"]] = reply[:-1]
                continue
            entry = orjson.loads(line)
            if entry["machine"] == machine:
                self.objects[entry["path"]] = entry

    def reply(self, command: str, arguments: Mapping[str, Any]) -> bytes | None:
        """The reply to one of `COMMANDS`, with markers; None where it is not known."""
        if not self.objects:
            return None
        if command == "qom-list-get":
            return self._list_all(arguments["paths"])
        path = self.resolve(arguments["path"])
        if path not in self.objects:
            # Only qom-list tells the two apart.
            return self._unknown.get(path if command == "qom-list" else "path")
        entry = self.objects[path]
        if command == "qom-list":
            return _returned(entry["properties"])
        name = arguments["property"]
        if name not in self._types(path):
            error = self._unknown["property"].replace("«type»".encode(), entry["values"]["type"].encode())
            return error.replace("«property»".encode(), orjson.dumps(name)[1:-1])
        if name in entry.get("errors", {}):
            return _spell({"error": {"class": "GenericError", "desc": entry["errors"][name]}})
        found, value = self._value(path, name)
        return _returned(value) if found else None

    def resolve(self, path: str) -> str:
        """The canonical path of what a path names; `path` where that is nothing, `ambiguous` where it is several."""
        parts = path.split("/")
        if path.startswith("/"):
            return self._descend("/", parts[1:]) or "path"
        # A partial path may begin at any object.
        found = [target for start in self.objects if (target := self._descend(start, parts if path else []))]
        return "path" if not found else found[0] if len(found) == 1 else "ambiguous"

    def _descend(self, start: str, parts: list[str]) -> str | None:
        path = start
        for part in parts:
            if not part:
                continue
            kind = self._types(path).get(part, "")
            if kind.startswith("child<"):
                path = _join(path, part)
            elif kind.startswith("link<"):
                path = self.objects[path]["values"].get(part, "")
            else:
                return None
            if path not in self.objects:
                return None
        return path

    @cached_property
    def _properties(self) -> dict[str, dict[str, str]]:
        return {}

    def _types(self, path: str) -> dict[str, str]:
        """The types of an object's properties, by name."""
        known = self._properties.get(path)
        if known is None:
            known = {each["name"]: each["type"] for each in self.objects[path]["properties"]}
            self._properties[path] = known
        return known

    def _value(self, path: str, name: str) -> tuple[bool, Any]:
        if self._types(path)[name].startswith("child<"):
            return True, _join(path, name)
        values = self.objects[path]["values"]
        return name in values, values.get(name)

    def _list_all(self, paths: list[str]) -> bytes | None:
        listed = []
        for asked in paths:
            path = self.resolve(asked)
            if path not in self.objects:
                error = self._unknown.get(path)
                return None if error is None else error.replace("«path»".encode(), orjson.dumps(asked)[1:-1])
            properties = []
            for each in self.objects[path]["properties"]:
                found, value = self._value(path, each["name"])
                if not found and each["name"] not in self.objects[path].get("errors", {}):
                    return None
                shown = {"name": each["name"], "value": value} if found else {"name": each["name"]}
                properties.append({**shown, **{member: each[member] for member in each if member != "name"}})
            listed.append({"properties": properties})
        return _returned(listed)


def _join(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}"


def _returned(value: Any) -> bytes:
    return _spell({"return": value})


def _spell(value: Any) -> bytes:
    import json

    text = json.dumps(value).replace("\x7f", "\\u007F")
    return text.replace("\\u00ab", "«").replace("\\u00bb", "»").encode()
