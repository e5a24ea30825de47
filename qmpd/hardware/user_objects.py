"""The objects that users make: iothreads, memory backends, secrets and their like (`object-add`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.dictionary_order import in_order
from qmpd.common.identifiers import is_identifier
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.hardware import object_text, throttle_groups, user_object_rules
from qmpd.hardware.throttle_groups import GROUP
from qmpd.hardware.user_object_rules import MEMORY_BACKEND
from qmpd.machine.errors import MachineError
from qmpd.qom.naming import rename
from qmpd.qom.reader import target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.common.computer import Computer
    from qmpd.common.texts import Texts
    from qmpd.hardware.backends import Backends
    from qmpd.qom.node import Node
    from qmpd.qom.reader import Reader
    from qmpd.qom.tree import Builder, ObjectTree, Types

OBJECTS = "/objects"
_CAN_BUS = "can-bus"


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
            raise Refusal("identifier-expected", name="id")
        captured = self._builder.captured("object", kind)
        if captured is None and user_object_rules.is_known(kind) and "user-creatable" in self._types.is_a(kind):
            captured = {}
        if captured is None or (not checked and "user-creatable" not in self._types.is_a(kind)):
            raise self._unknown(kind)
        if "refusal" in captured and not properties:
            self._check_new(identifier)
            raise MachineError(captured["refusal"].replace("«id»", identifier))
        if "tree" not in captured:
            ordered_values = {name: properties[name] for name in in_order(tuple(properties))}
            self._check_unknown(kind, identifier, ordered_values, text=text)
            raise NotModelled(f"objects of type {kind}")
        node = self._builder.build(captured["tree"], owns=True)
        rename(node, lambda name, _: name.replace("«id»", identifier))
        ordered = in_order(tuple(properties))
        given: dict[str, Any] = {}
        for name in ordered:
            given[name] = self._set(node, name, properties[name], given, text=text)
        self._check_new(identifier)
        user_object_rules.check(self._types.is_a(kind), kind, given | {"id": identifier}, self)
        self._tree.container(OBJECTS).add_child(identifier, node)
        self._finish(node, properties)
        return node

    def _check_new(self, identifier: str) -> None:
        if identifier in self._tree.container(OBJECTS).children:
            raise MachineError(self._texts("object-duplicate", id=identifier))

    def _set(self, node: Node, name: str, value: object, before: Mapping[str, Any], *, text: bool) -> Any:
        """Set a property of a new object, which has what was set before; gives what was set, read."""
        kinds = self._types.is_a(node.type)
        to = target(node, name, self._texts)
        if name == "size" and MEMORY_BACKEND in kinds:
            # It is read as a size, whatever its type is called.
            to = to._replace(found=to.found._replace(kind="size"))
        elif name in object_text.COUNTS:
            to = to._replace(found=to.found._replace(kind="uint32"))
        if text:
            value = object_text.read(name, to.found.kind, str(value))
        elif name in object_text.LISTS:
            object_text.check_list(name, value)
        read = self._reader.read(to, value, text=False)
        user_object_rules.check_value(kinds, node.type, name, read, before)
        self.put(node, name, read)
        return read

    def put(self, node: Node, name: str, value: Any) -> None:
        """Let a property be this, which has been looked at, and what follows from it."""
        if node.type != GROUP or not throttle_groups.put(node, name, value):
            node.set_value(name, value)

    def check_value(self, node: Node, name: str, value: Any) -> None:
        """Refuse what an object does not take once it works.

        :raise Refusal: it does not take this value.
        """
        if node.type == GROUP:
            throttle_groups.check_change(node, name, value)
        elif node.parent is not None and node.parent.path == OBJECTS:
            user_object_rules.check_change(self._types.is_a(node.type), node.type, name, value)

    def find(self, identifier: str) -> Node | None:
        """The object of this id."""
        container = self._tree.root.children.get("objects")
        return None if container is None else container.children.get(identifier)

    # What a new object finds (`qmpd.hardware.user_object_rules.Surroundings`)

    @property
    def computer(self) -> Computer:
        """See there."""
        return self._backends.computer

    @property
    def memory_files_of_pages(self) -> bool:
        """See there."""
        return self._backends.memory_files_of_pages

    def has_chardev(self, label: str) -> bool:
        """See there."""
        return label in self._backends.chardevs

    def is_chardev_busy(self, label: str) -> bool:
        """See there."""
        return self._backends.chardev_is_busy(label)

    def has_netdev(self, identifier: str) -> bool:
        """See there."""
        return self._backends.network.find(identifier) is not None

    def object_type(self, identifier: str) -> str | None:
        """See there."""
        node = self.find(identifier)
        return None if node is None else node.type

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

    def _check_unknown(self, kind: str, identifier: str, properties: Mapping[str, object], *, text: bool) -> None:
        """Refuse what QEMU would of an object whose properties are not known."""
        kinds = self._types.is_a(kind)
        given = {name: object_text.likely(str(value)) if text else value for name, value in properties.items()}
        for name, value in given.items():
            user_object_rules.check_value(kinds, kind, name, value, {})
        self._check_new(identifier)
        user_object_rules.check(kinds, kind, {**given, "id": identifier}, self)

    def _unknown(self, kind: str) -> Refusal:
        types = self._types.is_a(kind)
        if "object" not in types and kind != "user-creatable":
            return Refusal("object-type-invalid", kind=kind)
        if "user-creatable" not in types:
            return Refusal("object-type-own", kind=kind)
        return Refusal("object-type-abstract", kind=kind)

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
        if node.type == GROUP:
            return throttle_groups.uses(self._backends.block, node.name)
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
