"""The memory that a machine has from the start: which object it is in (hw/core/machine.c, `machine_run_board_init`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.hardware.user_objects import OBJECTS

if TYPE_CHECKING:
    from qmpd.machine.blueprint import MachineSettings
    from qmpd.qom.node import Node
    from qmpd.qom.tree import Builder, ObjectTree

_BACKEND = "memory-backend"
_IN_MEMORY, _IN_FILE = "memory-backend-ram", "memory-backend-file"
# What it is called on a board that has none where nobody asks for memory.
_NAME = "ram"


def choose(builder: Builder, tree: ObjectTree, settings: MachineSettings) -> None:
    """Let the machine's own memory be what the settings say: an object of the user's, a file, or none at all."""
    board = tree.find("/machine")
    if board is None:
        return
    own = str(board.value(_BACKEND) or "").rpartition("/")[2]
    users = settings.machine_options.get(_BACKEND)
    if users is not None or any("memdev" in each for each in settings.numa):
        if own and all(each["id"] != own for each in settings.objects):
            tree.container(OBJECTS).remove(own)
        board.set_value(_BACKEND, f"{OBJECTS}/{users}" if users else "")
        return
    if not own and not settings.memory:
        return
    kind = _IN_MEMORY if settings.memory_path is None else _IN_FILE
    node = tree.container(OBJECTS).children.get(own)
    if node is None or node.type != kind:
        node = _make(builder, tree, kind, own or _NAME)
    node.set_value("size", "«memory»")
    if settings.memory_path is not None:
        node.set_value("mem-path", settings.memory_path)
    if settings.memory_prealloc:
        node.set_value("prealloc", True)
    board.set_value(_BACKEND, node.path)


def _make(builder: Builder, tree: ObjectTree, kind: str, name: str) -> Node:
    """Make the object anew, of another type."""
    captured = builder.captured("object", kind)
    container = tree.container(OBJECTS)
    if name in container.children:
        container.remove(name)
    node = builder.build((captured or {})["tree"], owns=True)
    container.add_child(name, node)
    return node
