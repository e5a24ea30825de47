"""The objects that users make: iothreads, memory backends, secrets and their like (`object-add`)."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from qmpd.common.identifiers import is_identifier
from qmpd.common.integers import INTEGER_RANGES
from qmpd.common.refusals import NotModelled
from qmpd.machine.errors import MachineError
from qmpd.qom.naming import rename
from qmpd.qom.reader import Target, target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.common.texts import Texts
    from qmpd.hardware.backends import Backends
    from qmpd.qom.node import Node
    from qmpd.qom.reader import Reader
    from qmpd.qom.tree import Builder, ObjectTree, Types

OBJECTS = "/objects"
MEMORY_BACKEND = "memory-backend"
_CAN_BUS = "can-bus"
_SIZE = re.compile(r"([0-9]+)([kKmMgGtTbB]?)")
_LARGEST = (1 << 63) - 1
# What may be given in place of a property without which objects of a type are refused.
_INSTEAD = {("secret", "data"): "file"}


class Objects:
    """The objects of one machine that users made."""

    __slots__ = ("_backends", "_builder", "_own", "_reader", "_texts", "_tree", "_types")

    def __init__(
        self, tree: ObjectTree, builder: Builder, types: Types, backends: Backends, texts: Texts, reader: Reader
    ) -> None:
        self._tree = tree
        self._builder = builder
        self._types = types
        self._backends = backends
        self._texts = texts
        self._reader = reader
        self._own: dict[str, Node] = {}

    def add(self, kind: str, identifier: str, properties: Mapping[str, object], *, checked: bool, text: bool) -> Node:
        """Make an object.

        `checked`: the properties fit the type's declaration, and the id must be an identifier; `text`: they are text.

        :raise MachineError: it is refused.
        """
        if checked and not is_identifier(identifier):
            raise MachineError("Parameter 'id' expects an identifier")
        captured = self._builder.captured("object", kind)
        if captured is None or (not checked and "user-creatable" not in self._types.is_a(kind)):
            raise MachineError(self._unknown(kind))
        if "tree" not in captured:
            if "refusal" in captured and not properties:
                raise MachineError(captured["refusal"].replace("«id»", identifier))
            raise NotModelled(f"objects of type {kind}")
        node = self._builder.build(captured["tree"], owns=True)
        rename(node, lambda name, _: name.replace("«id»", identifier))
        for name, value in properties.items():
            to = target(node, name, self._texts)
            if name == "size" and MEMORY_BACKEND in self._types.is_a(kind):
                # It is read as a size, whatever its type is called.
                to = to._replace(found=to.found._replace(kind="size"))
            read = self._reader.read(to, _from_text(to, value) if text else value, text=False)
            self._check(kind, name, read)
            node.set_value(name, read)
        container = self._tree.container(OBJECTS)
        if identifier in container.children:
            raise MachineError(self._texts("object-duplicate", id=identifier))
        needed = captured.get("with", ())
        if any(name not in properties and _INSTEAD.get((kind, name)) not in properties for name in needed):
            raise MachineError(captured["refusal"].replace("«id»", identifier))
        self._open(kind, node)
        container.add_child(identifier, node)
        self._finish(node, properties)
        return node

    def find(self, identifier: str) -> Node | None:
        """The object of this id."""
        container = self._tree.root.children.get("objects")
        return None if container is None else container.children.get(identifier)

    def begin(self) -> None:
        """Let the objects that are added next come before those that the machine makes for itself."""
        container = self._tree.container(OBJECTS)
        own = dict(container.children)
        for name in own:
            container.remove(name)
        self._own = own

    def end(self) -> None:
        """Give the machine its own objects back, behind those that were added since `begin`."""
        container = self._tree.container(OBJECTS)
        container.forget_order()
        for name, node in self._own.items():
            if name not in container.children:
                container.add_child(name, node)
        self._own = {}

    def _unknown(self, kind: str) -> str:
        types = self._types.is_a(kind)
        if "object" not in types:
            return self._texts("object-type", type=kind)
        if "user-creatable" not in types:
            return f"object type '{kind}' isn't supported by object-add"
        return f"object type '{kind}' is abstract"

    def _check(self, kind: str, name: str, value: Any) -> None:
        if kind == "iothread" and name.startswith("poll-") and not 0 <= value <= _LARGEST:
            raise MachineError(f"{name} value must be in range [0, {_LARGEST}]")
        if name == "size" and value == 0 and MEMORY_BACKEND in self._types.is_a(kind):
            raise MachineError(f"property 'size' of {kind} doesn't take value '0'")

    def _open(self, kind: str, node: Node) -> None:
        """Refuse a file that cannot be read."""
        if kind != "rng-random":
            return
        path = node.value("filename")
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            raise MachineError(f"Could not open '{path}': {error.strerror}") from None

    def _finish(self, node: Node, properties: Mapping[str, object]) -> None:
        """What follows from the properties."""
        size = node.value("size")
        if MEMORY_BACKEND in self._types.is_a(node.type) and size is not None:
            for child in node.children.values():
                if child.type.endswith("memory-region"):
                    child.set_value("size", size)

    def remove(self, identifier: str) -> None:
        """Take an object away (`object-del`).

        :raise MachineError: there is none, or it is in use.
        """
        container = self._tree.container(OBJECTS)
        node = container.children.get(identifier)
        if node is None:
            raise MachineError(self._texts("object-missing", id=identifier))
        if node.type == _CAN_BUS:
            raise MachineError(self._texts("can-bus-stays", id=identifier))
        if self._is_in_use(node):
            raise MachineError(self._texts("object-in-use", id=identifier))
        container.remove(identifier)

    def _is_in_use(self, node: Node) -> bool:
        if MEMORY_BACKEND not in self._types.is_a(node.type):
            return False
        machine = self._tree.root.children.get("machine")
        return node.path in self._backends.used_objects or (
            machine is not None and machine.value("memory-backend") in (node.path, node.name)
        )

    def of_type(self, kind: str) -> list[Node]:
        """The objects of a type, in the order in which the table of objects is walked."""
        container = self._tree.root.children.get("objects")
        if container is None:
            return []
        listed = [container.children.get(each.name) for each in reversed(container.properties())]
        return [node for node in listed if node is not None and kind in self._types.is_a(node.type)]


def _from_text(to: Target, value: object) -> object:
    """What a property that was given as text is read as (qapi/opts-visitor.c).

    :raise MachineError: it is none of its type.
    """
    name, kind = to.name, to.found.kind
    if not isinstance(value, str):
        return value
    if kind == "bool":
        if value in ("on", "yes", "y"):
            return True
        if value in ("off", "no", "n"):
            return False
        raise MachineError(f"Parameter '{name}' expects 'on' or 'off'")
    if kind not in INTEGER_RANGES and kind not in ("int", "size"):
        return value
    size = _SIZE.fullmatch(value)
    if name == "size" and size is not None:
        return int(size[1]) << 10 * "bkmgt".index(size[2].lower() or "b")
    if name != "size" and re.fullmatch("-?[0-9]+", value):
        return int(value)
    raise MachineError(f"Parameter '{name}' expects {'a size value' if name == 'size' else 'an int64 value'}")
