"""What `info qtree` shows of each type of device: which properties in which order, and what is beside them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from qmpd.capture.client import CaptureError, Program
from qmpd.capture.hardware.notation import entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qmpd.capture.client import Client
    from qmpd.capture.hardware.machines import MachineType

_DEVICE = re.compile(r'dev: (.+), id "(.*)"\Z')
_PROPERTY = re.compile(r"([A-Za-z0-9_.-]+(?:\[[0-9]+\])?) = ")
# What is of one device, and not of its type: where it is.
_PLACES = (
    (re.compile(r"(?<=, addr )[0-9a-f]{2}:[0-9a-f]{2}\.[0-7](?=, pci id )"), "«address»"),
    (re.compile(r"(?<=, port )[0-9.]+(?=, speed )"), "«port»"),
)

Trees = dict[str, dict[str, Any]]
"""What was seen of each type: its `properties`, and the lines `before` and `after` them."""


def look(client: Client, found: Trees) -> None:
    """Enter the types of the devices that a program has now, unless they were seen before."""
    for name, seen in _all(client).items():
        found.setdefault(name, seen[0])


def _all(client: Client) -> dict[str, list[dict[str, Any]]]:
    """What is shown of all devices, by their types."""
    outcome = client.ask("human-monitor-command", {"command-line": "info qtree"})
    seen: dict[str, list[dict[str, Any]]] = {}
    for name, own in _devices(outcome.result.splitlines() if outcome.value is not None else ()):
        seen.setdefault(name, []).append(_parts(own))
    return seen


def _devices(lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Each device, and the lines that are its own, in the order in which the devices end."""
    open_: list[tuple[int, str, list[str]]] = []
    for line in lines:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        while open_ and indent <= open_[-1][0]:
            _, name, own = open_.pop()
            yield name, own
        device = _DEVICE.match(text)
        if device is not None:
            open_.append((indent, device[1], []))
        elif open_ and indent == open_[-1][0] + 2 and not text.startswith("bus: "):
            open_[-1][2].append(text)
    for _, name, own in reversed(open_):
        yield name, own


def _parts(lines: list[str]) -> dict[str, Any]:
    properties = [match[1] for line in lines if (match := _PROPERTY.match(line))]
    places = [place for place, line in enumerate(lines) if _PROPERTY.match(line)]
    first, last = (places[0], places[-1] + 1) if places else (len(lines), len(lines))
    after = lines[last:]
    for pattern, marker in _PLACES:
        after = [pattern.sub(marker, line) for line in after]
    found = {"before": lines[:first], "properties": properties, "after": after}
    return {name: value for name, value in found.items() if value}


def lines(command: str, machines: Iterable[MachineType], found: Trees) -> list[bytes]:
    """The lines of the file of hardware: of the types that were found and of those that machines have from the start,
    and what machines have that is not as the type is.
    """
    own: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for machine in machines:
        for more in ([], ["-nodefaults"]):
            options = ["-machine", machine.name, *machine.options, "-display", "none", "-S", *more]
            try:
                with Program(command, options) as program:
                    seen = _all(program.client)
            except CaptureError:
                continue
            for name, each in seen.items():
                found.setdefault(name, each[0])
                if any(one != found[name] for one in each):
                    places = [{part: one.get(part, []) for part in ("before", "after")} for one in each]
                    own.setdefault(machine.name, {}).setdefault(name, places)
    types = [entry("qtree", name, found[name]) for name in sorted(found)]
    return types + [entry("qtree-of", name, own[name]) for name in own]
