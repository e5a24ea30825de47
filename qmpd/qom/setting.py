"""Setting a property of an object that exists: what each one takes, and how it refuses (QEMU's visitors)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.enumerations import ENUMERATIONS
from qmpd.common.integers import INTEGER_RANGES
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.common.scalars import boolean_of, integer_of, size_of
from qmpd.machine.errors import DeviceNotFound, MachineError

if TYPE_CHECKING:
    from qmpd.common.texts import Texts
    from qmpd.qom.node import Node, Property
    from qmpd.qom.tree import ObjectTree

_SIGNED = range(-1 << 63, 1 << 63)
_UNSIGNED = range(1 << 64)

READ_ONLY, AFTER_REALIZE, ANYTHING = 0, 1, "*"

_KINDS: dict[str, tuple[type, str]] = {
    "string": (str, "string"),
    "boolean": (bool, "boolean"),
    "integer": (int, "integer"),
    "array": (list, "array"),
    ANYTHING: (dict, "object"),
}


def check_value(tree: ObjectTree, node: Node, found: Property, value: Any, texts: Texts) -> Any:
    """The value that the property takes for `value`.

    :raise MachineError: it takes none, or not this one.
    """
    code, name = found.code, found.name
    if code == READ_ONLY:
        raise MachineError(texts("property-not-writable", type=node.type, name=name))
    if code == AFTER_REALIZE:
        raise MachineError(after_realize(node, name))
    assert isinstance(code, str)
    if code.startswith("="):
        raise MachineError(tree.plain(node, code[1:]))
    if code == "uint64":
        if type(value) is not int or not -(1 << 63) <= value < 1 << 64:
            raise MachineError(f"Parameter '{name}' expects uint64")
        return value & (1 << 64) - 1
    kind, expected = _KINDS[code]
    if type(value) is not kind or (isinstance(value, int) and value not in _SIGNED):
        raise MachineError(f"Invalid parameter type for '{name}', expected: {expected}")
    if found.is_link and isinstance(value, str):
        return _link(tree, found, value)
    if found.kind in ENUMERATIONS and value not in ENUMERATIONS[found.kind]:
        raise MachineError(texts("enum-refusal", name=name, value=value))
    limits = INTEGER_RANGES.get(found.kind)
    if limits is not None and isinstance(value, int) and not limits[0] <= value <= limits[1]:
        raise MachineError(f"Parameter '{name}' expects {found.kind}_t")
    if name == "realized" and value != node.value(name):
        raise NotModelled(f"setting '{name}'")
    return value


def from_text(found: Property, text: str) -> object:
    """What the property reads a text as (QEMU's string-input-visitor.c); as it is where it cannot be set anyway.

    :raise Refusal: it is none of its type.
    """
    if found.code in ("integer", "uint64"):
        unsigned = found.code == "uint64"
        try:
            number = size_of(text) if found.kind == "size" else integer_of(text)
        except (ValueError, OverflowError):
            number = -1 << 64
        if number not in (_UNSIGNED if unsigned else _SIGNED):
            kind = "size" if found.kind == "size" else "uint64" if unsigned else "int64"
            raise Refusal("value-expected", name=found.name, kind=kind)
        return number
    if found.code == "boolean":
        try:
            return boolean_of(text)
        except ValueError:
            raise Refusal("boolean-value", name=found.name) from None
    if found.code in ("array", ANYTHING):
        raise NotModelled(f"setting '{found.name}' by text")
    return text


def after_realize(node: Node, name: str) -> str:
    """The text that refuses to change a device that is part of the machine."""
    holder = node.parent
    named = holder is not None and holder.name == "peripheral"
    device = f"device '{node.name}'" if named else "anonymous device"
    return f"Attempt to set property '{name}' on {device} (type '{node.type}') after it was realized"


def _link(tree: ObjectTree, found: Property, path: str) -> str:
    if not path:
        return ""
    wanted = found.kind[len("link<") : -1]
    target = tree.resolve_typed(path, wanted)
    if target is None:
        if tree.resolves(path):
            raise MachineError(f"Invalid parameter type for '{found.name}', expected: {wanted}")
        raise DeviceNotFound(f"Device '{path}' not found")
    return target.path
