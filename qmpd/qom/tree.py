"""The tree of a machine's objects: finding one by its path, and reading and setting its properties.

A path that begins with a slash is absolute; any other is partial and may begin at any object, as long as it fits one
alone (QEMU's qom/object.c).  A path's parts are the names of properties, children or links.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.machine.errors import DeviceNotFound, MachineError
from qmpd.qom.node import TYPE_ONLY, Node, Property, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.common.texts import Texts

ERROR = "«error»"
_GIBIBYTE = 1 << 30
# Names that nothing was captured of come from clients, and must not pile up.
_KEPT = 512
_MARKED = "«"
_PLUS = re.compile("«(.*), plus (-?[0-9]+)»")


class ObjectSource(Protocol):
    """Where shapes and captured objects come from (`qmpd.qapi.hardware.Hardware`)."""

    def shape(self, number: int) -> dict[str, Any]:
        """The shape of this number."""

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """What was captured of this kind and name."""


class Types(Protocol):
    """What the types of objects are (`qmpd.qapi.object_types.ObjectTypes`)."""

    def is_a(self, name: str) -> frozenset[str]:
        """Everything that a type is: itself, its ancestors, and the interfaces that they implement."""


    def is_abstract(self, name: str) -> bool:
        """Whether there are no objects of a type but those of types derived from it."""


class NoSuchObject(DeviceNotFound):
    """There is nothing at that path."""

    __slots__ = ()

    def __init__(self, path: str) -> None:
        super().__init__(f"Device '{path}' not found")


class Builder:
    """Makes objects of what was captured; the shapes are shared by all that are made."""

    __slots__ = ("_captured", "_shapes", "_source")

    def __init__(self, source: ObjectSource) -> None:
        self._source = source
        self._shapes: dict[int, Shape] = {}
        self._captured: dict[tuple[str, str], dict[str, Any] | None] = {}

    def captured(self, kind: str, name: str) -> dict[str, Any] | None:
        """What was captured of this kind and name, the same object each time; None where there is nothing."""
        key = kind, name
        if key not in self._captured:
            if len(self._captured) >= _KEPT:
                self._captured.clear()
            self._captured[key] = self._source.find(kind, name)
        return self._captured[key]

    def shape(self, number: int) -> Shape:
        """The shape of this number."""
        known = self._shapes.get(number)
        if known is None:
            content = self._source.shape(number)
            known = self._shapes[number] = Shape(content["properties"], content.get("static"))
        return known

    def build(self, captured: list[Any], owner: Node | None = None, owns: bool = False) -> Node:
        """An object and all below it; where it `owns`, it is what `«self»` stands for in them."""
        number, values, children = captured
        shape = self.shape(number)
        node = Node(shape, values, owner)
        if owns:
            owner = node.owner = node
        if children:
            names = [each.name for each in shape.properties if each.is_child]
            for name, child in zip(names, children, strict=True):
                if child is not None:
                    node.attach(name, self.build(child, owner))
        return node


class ObjectTree:
    """All objects of a machine.  `values` gives the numbers that markers stand for."""

    __slots__ = ("_texts", "_types", "_values", "root")

    def __init__(self, root: Node, values: Mapping[str, Callable[[], Any]], types: Types, texts: Texts) -> None:
        self.root = root
        self._types = types
        self._values = values
        self._texts = texts

    # Paths

    def resolve(self, path: str) -> Node:
        """The object that a path names.

        :raise NoSuchObject: there is none.
        :raise MachineError: a partial path fits several.
        """
        candidates = self._candidates(path)
        if not candidates:
            raise NoSuchObject(path)
        if len(candidates) > 1:
            raise MachineError(f"Path '{path}' is ambiguous")
        return candidates[0]

    def resolve_unique(self, path: str) -> Node:
        """The same where a path that fits several objects is as good as none.

        :raise NoSuchObject: there is not exactly one.
        """
        candidates = self._candidates(path)
        if len(candidates) != 1:
            raise NoSuchObject(path)
        return candidates[0]

    def resolve_typed(self, path: str, kind: str) -> Node | None:
        """The object of type `kind` that a path names; None where there is none.

        :raise MachineError: there are several, or several ways to one.
        """
        fitting = [node for node in self._candidates(path) if kind in self._types.is_a(node.type)]
        if len(fitting) > 1:
            raise MachineError(f"Path '{path}' does not uniquely identify an object")
        return fitting[0] if fitting else None

    def resolves(self, path: str) -> bool:
        """Whether a path names anything."""
        return bool(self._candidates(path))

    def _candidates(self, path: str) -> list[Node]:
        parts = path.split("/") if path else []
        starts = [self.root] if path.startswith("/") else self.root.below()
        return [node for start in starts if (node := self.descend(start, parts)) is not None]

    def descend(self, node: Node, parts: list[str]) -> Node | None:
        """The object at a path below `node`; None where there is none."""
        here: Node | None = node
        for part in parts:
            if part == "":
                continue
            assert here is not None
            child = here.children.get(part)
            if child is None:
                found = here.property(part)
                if found is None or not found.is_link:
                    return None
                target = self.get(here, part)
                child = self.find(target) if target else None
            if child is None:
                return None
            here = child
        return here

    def find(self, path: str) -> Node | None:
        """The object at an absolute path; None where there is none."""
        return self.descend(self.root, path.split("/")[1:])

    def container(self, path: str) -> Node:
        """The object at an absolute path; what is missing of it is made, as containers."""
        node = self.root
        for part in path.split("/")[1:]:
            child = node.children.get(part)
            if child is None:
                child = Node(TYPE_ONLY, ["container"])
                node.add_child(part, child)
            node = child
        return node

    # Properties

    def require(self, node: Node, name: str) -> Property:
        """The property of this name.

        :raise MachineError: there is none.
        """
        found = node.property(name)
        if found is None:
            raise MachineError(f"Property '{node.type}.{name}' not found")
        return found

    def get(self, node: Node, name: str) -> Any:
        """What a property says.

        :raise MachineError: there is none of that name, or it cannot be read.
        """
        found = self.require(node, name)
        if found.is_child:
            return f"{node.path.rstrip('/')}/{name}"
        return self.plain(node, node.value(name))

    def plain(self, node: Node, value: Any) -> Any:
        """A value without markers.

        :raise MachineError: it stands for an error.
        """
        if type(value) is str:
            return self._replace(node, value) if _MARKED in value else value
        if type(value) is list:
            return [self.plain(node, element) for element in value]
        if type(value) is dict:
            if ERROR in value:
                raise MachineError(self.plain(node, value[ERROR]))
            # As captured, which is the order of QEMU's dictionary: of two in one bucket the newest comes first.
            return {name: self.plain(node, member) for name, member in reversed(value.items())}
        return value

    def _replace(self, node: Node, text: str) -> Any:
        plus = _PLUS.fullmatch(text)
        if plus is not None:
            # Regions behind the memory begin at a whole GiB.
            size: int = self._values[plus[1]]()
            return (size + _GIBIBYTE - 1) // _GIBIBYTE * _GIBIBYTE + int(plus[2])
        value = self._values.get(text[1:-1])
        if value is not None and text[0] == _MARKED:
            return value()
        text = text.replace("«type»", node.type)
        owner = node.owner
        if owner is None:
            return text
        return text.replace("«self»", owner.path).replace("«id»", owner.name)
