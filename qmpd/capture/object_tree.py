"""Walking the QOM objects of a reference machine (`qmpd.qapi.object_tree` reads what is written here)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from qmpd.capture.answers import UNSAID, mark
from qmpd.capture.client import Gone, Program
from qmpd.capture.lines import line, spell
from qmpd.capture.reference import OPTIONS, OTHER_MEMORY, varied

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qmpd.capture.answers import Report
    from qmpd.capture.client import Client, Outcome

# Values of these types are of one process or one moment only.
_PASSING = frozenset({"SocketAddress", "struct tm"})
_STRANGER = "no-such-thing"

Objects = dict[str, tuple[list[dict[str, str]], dict[str, "Outcome"]]]


def object_tree(command: str, machines: Iterable[str], report: Report) -> list[bytes]:
    """The lines of the file of objects; none where the program has no qom-list.

    :raise CaptureError: the program does not start.
    """
    lines: list[bytes] = []
    for machine in machines:
        try:
            with Program(command, OPTIONS[machine]) as program:
                objects = _walk(program.client)
                if not objects:
                    return []
                if not lines:
                    lines += _unknown(program.client, objects)
            with Program(command, varied(machine, OTHER_MEMORY, 1)) as program:
                others = _walk(program.client)
        except Gone as error:
            report(f"the objects of machine {machine} cannot be listed: {error}")
            continue
        lines += [_line(machine, path, objects, others) for path in objects]
    return lines


def _walk(client: Client) -> Objects:
    """All objects by path: their properties, and what qom-get says of each."""
    objects: Objects = {}
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        listed = client.ask("qom-list", {"path": path})
        if listed.value is None:
            continue
        properties = listed.result
        names = [each["name"] for each in properties if each["type"] not in _PASSING]
        values = client.ask_all([("qom-get", {"path": path, "property": name}) for name in names])
        objects[path] = (properties, dict(zip(names, values, strict=True)))
        children = [each["name"] for each in properties if each["type"].startswith("child<")]
        waiting += [f"{path.rstrip('/')}/{name}" for name in reversed(children)]
    return objects


def _line(machine: str, path: str, objects: Objects, others: Objects) -> bytes:
    properties, outcomes = objects[path]
    _, other_outcomes = others.get(path, ([], {}))
    kinds = {each["name"]: each["type"] for each in properties}
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, outcome in outcomes.items():
        if kinds[name].startswith("child<"):
            continue
        if outcome.value is None:
            errors[name] = outcome.description
            continue
        other = other_outcomes.get(name)
        value = UNSAID if other is None or other.value is None else mark(outcome.result, other.result)
        # What `json` spells otherwise than QEMU could not be told again.
        if value is not UNSAID and spell(orjson.loads(outcome.value)) == outcome.value:
            values[name] = value
    entry: dict[str, Any] = {"path": path, "machine": machine, "properties": properties, "values": values}
    return spell({**entry, "errors": errors} if errors else entry)


def _unknown(client: Client, objects: Objects) -> Iterator[bytes]:
    """What is said of what does not exist."""
    kind = objects["/machine"][1]["type"].result
    asked: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
        "path": ("qom-list", {"path": f"/{_STRANGER}"}, {f"/{_STRANGER}": "path"}),
        "ambiguous": ("qom-list", {"path": ""}, {"''": "path"}),
        "property": ("qom-get", {"path": "/machine", "property": _STRANGER}, {kind: "type", _STRANGER: "property"}),
    }
    for name, (command, arguments, parts) in asked.items():
        outcome = client.ask(command, arguments)
        if outcome.value is None:
            text = outcome.description
            for part, marker in parts.items():
                text = text.replace(part, f"'«{marker}»'" if part == "''" else f"«{marker}»")
            error = spell({"error": {"class": outcome.error_class, "desc": text}})
            yield line({"unknown": name}, error)
