"""One object of the tree, and the shape that it shares with others like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.common.hash_table import HashTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Property(NamedTuple):
    """A property: its name, its type as qom-list tells it, and what setting it is answered (`qmpd.qapi.hardware`)."""

    name: str
    kind: str
    code: int | str = 0

    @property
    def is_child(self) -> bool:
        """Whether it is an object of its own."""
        return self.kind.startswith("child<")

    @property
    def is_link(self) -> bool:
        """Whether it is the path of another object."""
        return self.kind.startswith("link<")


class Shape:
    """What objects of one kind have in common: their properties, as they are listed.

    `static` is None for an object that stays as it is, else the number of properties at the start of the list that
    are its class's; the others are in the order in which they were put in, and more may follow.
    """

    __slots__ = ("names", "places", "properties", "static")

    def __init__(self, properties: list[list[Any]], static: int | None) -> None:
        self.properties = [Property(*each) for each in properties]
        self.static = static
        self.names = {each.name: each for each in self.properties}
        # Where the value of each property is that is no child.
        plain = (each.name for each in self.properties if not each.is_child)
        self.places = {name: place for place, name in enumerate(plain)}


TYPE_ONLY = Shape([["type", "string", 0]], 1)
"""The shape of a container without anything in it."""


class Node:
    """An object.

    `shape` and `captured` (its values) are shared and not to be changed; what was set is in `values`.  `owner` is the
    device that it is a part of, whose path `«self»` stands for.
    """

    __slots__ = ("_added", "_table", "captured", "children", "name", "owner", "parent", "shape", "values")

    def __init__(self, shape: Shape, captured: list[Any], owner: Node | None = None) -> None:
        self.shape = shape
        self.captured = captured
        self.owner = owner
        self.name = ""
        self.parent: Node | None = None
        self.children: dict[str, Node] = {}
        self.values: dict[str, Any] | None = None
        self._added: dict[str, Property] | None = None
        self._table: HashTable | None = None

    @property
    def path(self) -> str:
        """The canonical path."""
        parts: list[str] = []
        node: Node = self
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return "/" + "/".join(reversed(parts))

    @property
    def type(self) -> str:
        """The name of its type."""
        value = self.value("type")
        assert isinstance(value, str)
        return value

    def property(self, name: str) -> Property | None:
        """The property of this name."""
        if self._added is not None:
            return self._added.get(name)
        return self.shape.names.get(name)

    def properties(self) -> list[Property]:
        """The properties in the order of qom-list."""
        shape = self.shape
        if shape.static is None:
            return shape.properties
        if self._table is None:
            self._table = HashTable(each.name for each in shape.properties[shape.static :])
        names = shape.names if self._added is None else self._added
        return [*shape.properties[: shape.static], *(names[name] for name in reversed(self._table.walk()))]

    def put_in(self) -> list[Property]:
        """Its properties in the order in which they were put in, those of its class first."""
        return list((self.shape.names if self._added is None else self._added).values())

    def become(self, shape: Shape) -> None:
        """Have these properties and no others, as if none had ever been taken away."""
        self.shape, self._added, self._table = shape, None, None

    def put_last(self, name: str) -> None:
        """Let a property be the last that was put in, as if none had ever been taken away."""
        if self._added is None:
            self._added = dict(self.shape.names)
        self._added[name] = self._added.pop(name)
        self.forget_order()

    def list_anew(self, names: Sequence[str]) -> None:
        """Let a stretch of the properties be listed in this order.  It must be an object that stays as it is."""
        shape = self.shape
        start = min(place for place, each in enumerate(shape.properties) if each.name in names)
        properties = [list(each) for each in shape.properties]
        properties[start : start + len(names)] = [list(shape.names[name]) for name in names]
        values = {name: self.captured[place] for name, place in shape.places.items()}
        self.shape = Shape(properties, shape.static)
        self.captured = [values[name] for name in self.shape.places]

    def forget_order(self) -> None:
        """Let the properties be in the order in which they are now, as if none had ever been taken away."""
        static = self.shape.static or 0
        names = self.shape.names if self._added is None else self._added
        self._table = HashTable(list(names)[static:])

    def value(self, name: str) -> Any:
        """What the property says, with markers; None for a child."""
        if self.values is not None and name in self.values:
            return self.values[name]
        place = self.shape.places.get(name)
        return None if place is None else self.captured[place]

    def set_value(self, name: str, value: Any) -> None:
        """Let the property say something else."""
        if self.values is None:
            self.values = {}
        self.values[name] = value

    def attach(self, name: str, child: Node) -> None:
        """Make `child` what the shape's property `name` stands for."""
        child.name, child.parent = name, self
        self.children[name] = child

    def add(self, added: Property, value: Any = None) -> None:
        """Give it a property more.  It must be an object that gets more."""
        assert self.shape.static is not None
        if self._added is None:
            self._added = dict(self.shape.names)
        if self._table is None:
            self._table = HashTable(each.name for each in self.shape.properties[self.shape.static :])
        self._added[added.name] = added
        self._table.insert(added.name)
        if value is not None:
            self.set_value(added.name, value)

    def retype(self, name: str, kind: str) -> None:
        """Let a property be of another type."""
        if self._added is None:
            self._added = dict(self.shape.names)
        self._added[name] = Property(name, kind)

    def add_child(self, name: str, child: Node) -> None:
        """Give it a child more."""
        self.add(Property(name, f"child<{child.type}>"))
        self.attach(name, child)

    def remove(self, name: str) -> None:
        """Take a property away, and what hangs on it."""
        if self.shape.static is None:
            kept = [list(each) for each in self.shape.properties if each.name != name]
            self.shape = Shape(kept, None)
            if self._added is not None:
                self._added.pop(name, None)
            self.children.pop(name, None)
            return
        if self._added is None:
            self._added = dict(self.shape.names)
        if self._table is None:
            self.properties()
        assert self._table is not None
        self._added.pop(name, None)
        self._table.remove(name)
        child = self.children.pop(name, None)
        if child is not None:
            child.parent = None
        if self.values is not None:
            self.values.pop(name, None)

    def below(self) -> Iterator[Node]:
        """This object and all below it, a parent before its children."""
        yield self
        for child in self.children.values():
            yield from child.below()
