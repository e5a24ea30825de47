"""What a machine has: its objects, and the devices and backends in it.

An inventory is made when somebody first asks for one, and makes each of its parts when that is asked for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qmpd.machine.objects.assembly import MemoryLayout, assemble
from qmpd.machine.objects.node import Node, Shape
from qmpd.machine.objects.tree import Builder, ObjectTree

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from qmpd.machine.machine import Machine
    from qmpd.machine.objects.tree import ObjectTexts, Types

_CHARDEVS = "/chardevs"


def family(machine_type: str) -> str:
    """The type among those whose objects are captured that is most like this one."""
    if machine_type in ("none", "isapc", "microvm"):
        return machine_type
    return "q35" if "q35" in machine_type else "pc"


class Inventory:
    """The parts of one machine.

    `builders` are shared by all machines of a release.  `type_name` is the QOM type of the machine, None where it is
    that of the captured one.
    """

    __slots__ = ("_machine", "_tree", "builder", "texts", "type_name", "types")

    def __init__(
        self, machine: Machine, builder: Builder, types: Types, texts: ObjectTexts, type_name: str | None = None
    ) -> None:
        self._machine = machine
        self.builder = builder
        self.types = types
        self.texts = texts
        self.type_name = type_name
        self._tree: ObjectTree | None = None

    @property
    def tree(self) -> ObjectTree:
        """All objects.

        :raise LookupError: nothing was captured of machines of this type.
        """
        if self._tree is None:
            settings = self._machine.settings
            captured = self.builder.source.find("machine", family(settings.machine_type))
            if captured is None:
                raise LookupError(settings.machine_type)
            layout = MemoryLayout(settings.memory, captured.get("low-memory"))
            values: dict[str, Callable[[], Any]] = {
                "memory": lambda: layout.size,
                "memory below 4 GiB": lambda: layout.below,
                "memory above 4 GiB": lambda: layout.above,
                "cpus": lambda: settings.topology.cpus,
                "time": self._time,
            }
            root = assemble(self.builder, captured, settings, self.type_name)
            self._tree = ObjectTree(root, values, self.types, self.texts)
        return self._tree

    def _time(self) -> dict[str, int]:
        """What the guest's clock shows, as QEMU's `struct tm`."""
        now = time.gmtime(self._machine.clock.wall_microseconds() // 1_000_000)
        return {
            "tm_year": now.tm_year - 1900,
            "tm_mon": now.tm_mon - 1,
            "tm_mday": now.tm_mday,
            "tm_hour": now.tm_hour,
            "tm_min": now.tm_min,
            "tm_sec": now.tm_sec,
        }

    def show_chardevs(self, chardevs: Collection[tuple[str, str, bool, object]]) -> None:
        """Let the tree have these character devices: the label, the backend's type, whether somebody is connected,
        and the address."""
        container = self.tree.container(_CHARDEVS)
        labels = {label for label, *_ in chardevs}
        for name in [name for name in container.children if name not in labels]:
            container.remove(name)
        for label, kind, connected, address in chardevs:
            node = container.children.get(label)
            if node is None:
                node = self._chardev(f"chardev-{kind}")
                container.add_child(label, node)
            if node.property("connected") is not None:
                node.set_value("connected", connected)
                node.set_value("addr", address)

    def _chardev(self, kind: str) -> Node:
        captured = self.builder.source.find("chardev", kind)
        if captured is not None:
            return self.builder.build(captured["tree"])
        return Node(Shape([["type", "string", 0]], None), [kind])
