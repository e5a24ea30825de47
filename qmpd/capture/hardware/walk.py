"""Walking a machine's objects: their properties, what these say, and what setting one is answered."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qmpd.capture.client import Client, Outcome

Code = int | str
"""What setting a property is answered: see `qmpd.qapi.hardware`."""

READ_ONLY, AFTER_REALIZE = 0, 1
ANYTHING = "*"

_NOT_WRITABLE = re.compile(r"Property '.*' is not writable|Insufficient permission to perform this operation")
_REALIZED = "Attempt to set property '{name}' on {device} (type '{type}') after it was realized"
_WRONG_TYPE = re.compile(r"(?:Invalid parameter type for '(.+)', expected: (\w+)|Parameter '(.+)' expects (uint64))")


@dataclass(slots=True)
class Seen:
    """One object: its properties in the order of qom-list, and what was found out about each."""

    type: str
    properties: list[tuple[str, str]]
    values: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    children: dict[str, Seen] = field(default_factory=dict)

    def names(self) -> list[str]:
        """The properties' names."""
        return [name for name, _ in self.properties]

    def at(self, path: str) -> Seen | None:
        """The object at a path below this one."""
        here: Seen | None = self
        for part in path.split("/"):
            if part and here is not None:
                here = here.children.get(part)
        return here

    def below(self, path: str = "") -> Iterator[tuple[str, Seen]]:
        """This object and all below it, with their paths relative to this one (`/` before each name)."""
        yield path, self
        for name, child in self.children.items():
            yield from child.below(f"{path}/{name}")


def join(path: str, name: str) -> str:
    """The path of a child."""
    return f"{path.rstrip('/')}/{name}"


def walk(client: Client, path: str) -> Seen | None:
    """The object at `path` and all below it; None where there is none.

    :raise Gone: the program has ended.
    """
    listed = client.ask("qom-list", {"path": path})
    if listed.value is None:
        return None
    properties = [(each["name"], each["type"]) for each in listed.result]
    plain = [name for name, kind in properties if not kind.startswith("child<")]
    said = client.ask_all([("qom-get", {"path": path, "property": name}) for name in plain])
    seen = Seen("", properties)
    for name, outcome in zip(plain, said, strict=True):
        if outcome.value is None:
            seen.errors[name] = outcome.description
        else:
            seen.values[name] = outcome.result
    seen.type = seen.values["type"]
    seen.errors = {name: text.replace(f"'{seen.type}.", "'«type».") for name, text in seen.errors.items()}
    for name, kind in properties:
        if kind.startswith("child<"):
            child = walk(client, join(path, name))
            if child is not None:
                seen.children[name] = child
    return seen


def try_setting(client: Client, path: str, seen: Seen, identifier: str | None = None) -> None:
    """Find out what setting each property is answered: with an object, which only few properties take.

    `identifier` is the id of the device at `path`, where it has one.

    :raise Gone: the program has ended.
    """
    names = seen.names()
    said = client.ask_all([("qom-set", {"path": path, "property": name, "value": {}}) for name in names])
    for name, outcome in zip(names, said, strict=True):
        seen.codes[name] = _code(seen.type, name, outcome, identifier)
    for name, child in seen.children.items():
        try_setting(client, join(path, name), child)


def _code(kind: str, name: str, outcome: Outcome, identifier: str | None) -> Code:
    if outcome.value is not None:
        return ANYTHING
    text = outcome.description
    if _NOT_WRITABLE.fullmatch(text):
        # An alias can be of another type.
        return READ_ONLY if f"'{kind}.{name}'" in text or "'" not in text else f"={text}"
    device = "anonymous device" if identifier is None else f"device '{identifier}'"
    if text == _REALIZED.format(name=name, device=device, type=kind):
        return AFTER_REALIZE
    wrong = _WRONG_TYPE.fullmatch(text)
    if wrong is not None and name in (wrong[1], wrong[3]):
        return wrong[2] or wrong[4]
    return f"={text}"


def replace_in(value: Any, table: Mapping[str, str]) -> Any:
    """A value in whose strings the keys of `table` are replaced."""
    if isinstance(value, str):
        for old, new in table.items():
            value = value.replace(old, new)
        return value
    if isinstance(value, list):
        return [replace_in(element, table) for element in value]
    if isinstance(value, dict):
        return {name: replace_in(member, table) for name, member in value.items()}
    return value
