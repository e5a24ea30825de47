"""What a device's properties may be set to when it is added.

`device_add` gives values as they were sent or, in some releases and on the command line, as text.  Each type of
property has a way of its own to read a value and to refuse it (QEMU's visitors and hw/core/qdev-properties*.c).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from qmpd.common.enumerations import ENUMERATIONS
from qmpd.common.integers import INTEGER_RANGES
from qmpd.common.refusals import Refusal
from qmpd.common.scalars import size_of as size_in
from qmpd.machine.errors import DeviceNotFound, MachineError
from qmpd.qom.setting import READ_ONLY

if TYPE_CHECKING:
    from qmpd.common.texts import Texts
    from qmpd.qom.node import Node, Property
    from qmpd.qom.tree import ObjectTree

_TRUE = frozenset({"on", "yes", "true", "y"})
_FALSE = frozenset({"off", "no", "false", "n"})
# Types of properties that are objects of QAPI.
_STRUCTURES = frozenset({"ThrottleLimits"})
_UNSIGNED = frozenset({"uint8", "uint16", "uint32", "uint64", "size"})
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|0[xX][0-9a-fA-F]+)([kKmMgGtTpPeEbB]?)")
_SUFFIXES = "bkmgtpe"
_MAC = re.compile(r"(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}")
_PCI_ADDRESS = re.compile(r"(?:0[xX])?([0-9a-fA-F]+)(?:\.(?:0[xX])?([0-9a-fA-F]+))?")
_OTHER_TYPE = re.compile(r"=Attempt to set property '(.*)' on .* \(type '(.*)'\) after it was realized")
_BLOCK_SIZES = frozenset({"logical_block_size", "physical_block_size"})
_LARGEST_BLOCK = 2 << 20
# Sizes that have 32 bits.
_SIZES = frozenset({"discard_granularity", "min_io_size", "opt_io_size"})
_LARGEST_SIZE = (1 << 32) - 1
_MACS = frozenset({"mac", "fp_start_macaddr"})
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")

# A virtio device has what its part has, but for what every device has of its own.
_PART = "virtio-backend"
_OWN = frozenset({"type", "parent_bus", "realized", "hotplugged", "hotpluggable"})

PCI_ADDRESS, DRIVE, NETDEV, CHARDEV, GUID = "addr", "drive", "netdev", "chardev", "guid"
_BACKENDS = frozenset({DRIVE, NETDEV, CHARDEV, "audiodev", "tpmdev"})


class Backends(Protocol):
    """What a device can be given to use."""

    def check(self, kind: str, value: str, owner: str) -> None:
        """Refuse a backend that is not there or is in use.

        :raise MachineError: with `owner` (`TYPE.PROPERTY`) in its text.
        """


class ReaderRules(Protocol):
    """What releases differ in when they read values (`qmpd.qapi.behaviour.Behaviour`)."""

    @property
    def block_sizes_apart(self) -> bool:
        """Whether a size of blocks that is no power of 2 is refused with a text of its own."""

    @property
    def size_language(self) -> str:
        """How sizes are read that are text (`qmpd.common.scalars`)."""

    @property
    def keyval_options(self) -> bool:
        """Whether text is read as that of a tree of keys and values; false: as the text alone."""


class Target(NamedTuple):
    """The property that an option sets: `type` is the type of the object that has it, `id` its id, if it has one."""

    found: Property
    name: str
    type: str
    id: str = ""


def as_text(value: object) -> str | None:
    """A value as text, as QEMU's option lists hold it; None for what they leave out."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.17g}"
    return str(value) if isinstance(value, (str, int)) else None


def size_of(value: object) -> int | None:
    """A size in bytes, given as a number or as text; None where it is neither."""
    if type(value) is int:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    unit = 1 << 10 * _SUFFIXES.index(match[2].lower() or "b")
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1], 0) * unit


def target(node: Node, name: str, texts: Texts, identifier: str | None = None) -> Target:
    """The property that an option names; `identifier` is the object's id.

    :raise MachineError: there is none, or it cannot be set.
    """
    found = node.property(name)
    if found is None:
        raise MachineError(f"Property '{node.type}.{name}' not found")
    if found.code == READ_ONLY:
        raise MachineError(texts("property-not-writable", type=node.type, name=name))
    other = _OTHER_TYPE.fullmatch(found.code) if isinstance(found.code, str) else None
    if other is not None:
        return Target(found, other[1], other[2])
    part = node.children.get(_PART)
    if part is not None and name not in _OWN and part.property(name) is not None:
        return Target(found, name, part.type)
    return Target(found, name, node.type, identifier or "")


class Reader:
    """Reads values for one machine."""

    __slots__ = ("_backends", "_rules", "_texts", "_tree")

    def __init__(self, tree: ObjectTree, backends: Backends, texts: Texts, rules: ReaderRules) -> None:
        self._rules = rules
        self._tree = tree
        self._backends = backends
        self._texts = texts

    def read(self, to: Target, value: object, *, text: bool) -> Any:
        """What the property becomes; `text`: the value is given as text.

        :raise MachineError: it does not take this value.
        """
        name, kind = to.name, to.found.kind
        if isinstance(value, list) or (isinstance(value, dict) and kind in _STRUCTURES):
            return value  # what is in it was looked at before
        if name == PCI_ADDRESS and kind in ("int32", "str"):
            return self._pci_address(to, value)
        if name in _BLOCK_SIZES:
            return self._block_size(to, value, text=text)
        if kind == "bool":
            return self._boolean(name, value, text=text)
        if kind == "size" and text:
            return _below_limit(to, self._size(name, str(value)))
        if kind in INTEGER_RANGES or kind in ("int", "size"):
            return _below_limit(to, self._integer(name, kind, value, text=text))
        if type(value) is not str:
            raise MachineError(f"Invalid parameter type for '{name}', expected: string")
        if kind.startswith("link<"):
            return self._link(to, value)
        if name == GUID and kind == "str" and value != "auto" and _UUID.fullmatch(value) is None:
            raise MachineError(_does_not_take(to, value))
        if name in _MACS and kind == "str":
            if _MAC.fullmatch(value) is None:
                raise MachineError(_does_not_take(to, value))
            return value.replace("-", ":").lower()
        backend = name.rstrip("0123456789")
        if backend in _BACKENDS and kind == "str":
            if value or backend == NETDEV:
                self._backends.check(backend, value, f"{to.type}.{name}")
            return value
        if kind in ENUMERATIONS and value not in ENUMERATIONS[kind]:
            raise MachineError(self._texts("enum-refusal", name=name, value=value))
        return value

    def _boolean(self, name: str, value: object, *, text: bool) -> bool:
        if text:
            if value in _TRUE:
                return True
            if value in _FALSE:
                return False
            raise MachineError(f"Parameter '{name}' expects 'on' or 'off'")
        if type(value) is not bool:
            raise MachineError(f"Invalid parameter type for '{name}', expected: boolean")
        return value

    def _integer(self, name: str, kind: str, value: object, *, text: bool) -> int:
        unsigned = kind in _UNSIGNED
        if text:
            match = _NUMBER.fullmatch(str(value))
            number = None if match is None else int(match[1] + match[2], 8 if re.fullmatch("0[0-7]+", match[2]) else 0)
            if number is None or not -(1 << 63) <= number < 1 << 64 or (not unsigned and number >= 1 << 63):
                raise MachineError(self._texts("unsigned-option" if unsigned else "signed-option", name=name))
        else:
            limit = 1 << 64 if unsigned else 1 << 63
            if type(value) is not int or not -(1 << 63) <= value < limit:
                if unsigned:
                    raise MachineError(f"Parameter '{name}' expects uint64")
                raise MachineError(f"Invalid parameter type for '{name}', expected: integer")
            number = value
        low, high = INTEGER_RANGES.get(kind, INTEGER_RANGES["uint64" if kind == "size" else "int64"])
        if not low <= number <= high:
            raise MachineError(f"Parameter '{name}' expects {kind}_t")
        return number & (1 << 64) - 1 if kind in ("uint64", "size") else number

    def _size(self, name: str, value: str) -> int:
        in_tree = self._rules.keyval_options
        try:
            return size_in(value, self._rules.size_language)
        except ValueError:
            raise Refusal("size-expected" if in_tree else "size-value", name=name) from None
        except OverflowError:
            raise Refusal("size-expected" if in_tree else "size-too-large", name=name, value=value) from None

    def _link(self, to: Target, value: str) -> str:
        if not value:
            return ""
        wanted = to.found.kind[len("link<") : -1]
        node = self._tree.resolve_typed(value, wanted)
        if node is None:
            if self._tree.resolves(value):
                raise MachineError(f"Invalid parameter type for '{to.name}', expected: {wanted}")
            raise DeviceNotFound(f"Device '{value}' not found")
        return node.path

    def _pci_address(self, to: Target, value: object) -> int:
        """A PCI address as devfn."""
        if type(value) is int:
            if not -1 <= value <= 255:
                raise MachineError(f"Parameter '{to.name}' expects a value between -1 and 255")
            return value
        if type(value) is bool:
            raise MachineError(f"Invalid parameter type for '{to.name}', expected int or str")
        if type(value) is not str:
            raise MachineError(f"Invalid parameter type for '{to.name}', expected: integer")
        match = _PCI_ADDRESS.fullmatch(value)
        slot, function = (int(match[1], 16), int(match[2] or "0", 16)) if match is not None else (-1, 0)
        if not (0 <= slot <= 31 and 0 <= function <= 7):
            raise MachineError(_does_not_take(to, value))
        return slot << 3 | function

    def _block_size(self, to: Target, value: object, *, text: bool) -> int:
        size = self._size(to.name, str(value)) if text else self._integer(to.name, "size", value, text=False)
        apart = self._rules.block_sizes_apart
        if apart and (size != 0 and not 512 <= size <= _LARGEST_BLOCK):
            shown = size - (1 << 64) if size >= 1 << 63 else size
            raise MachineError(
                f"Property {to.id}.{to.name} doesn't take value {shown} (minimum: 512, maximum: {_LARGEST_BLOCK})"
            )
        if size & (size - 1) or (size != 0 and not 512 <= size <= _LARGEST_BLOCK):
            if apart:
                raise MachineError(f"Property {to.id}.{to.name} doesn't take value '{size}', it's not a power of 2")
            raise MachineError(f"parameter {to.name} must be a power of 2 between 512 and {_LARGEST_BLOCK}")
        return size


def _below_limit(to: Target, size: int) -> int:
    if to.name in _SIZES and size > _LARGEST_SIZE:
        raise Refusal("size-limit", type=to.type, id=to.id, name=to.name, value=size, most=_LARGEST_SIZE)
    return size


def _does_not_take(to: Target, value: str) -> str:
    return f"Property '{to.type}.{to.name}' doesn't take value '{value}'"
