"""The consoles of a machine: what devices show pictures on, and character devices text (QEMU's ui/console.c)."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.hardware.removal import BACKEND
from qmpd.qom.node import Node, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qmpd.qom.tree import Builder, ObjectTree, Types

_CONSOLE = "qemu-console"
# What a console that shows text is; no property, so nobody sees it.
_TEXT = "«text»"
_OUTPUTS = "max_outputs"
# Of text consoles: characters across and down, and the pixels of each.
_COLUMNS, _ROWS, _WIDTH, _HEIGHT = 80, 24, 8, 16
_VGA = frozenset({
    "VGA", "cirrus-vga", "isa-vga", "isa-cirrus-vga", "vmware-svga", "qxl-vga", "virtio-vga", "virtio-vga-gl",
    "ati-vga", "vhost-user-vga",
})  # fmt: skip
_PLAIN_FRAMES: dict[str, tuple[int, int] | None] = {"bochs-display": None, "ramfb": (1024, 768)}
"""Devices without a text mode, whose own firmware draws text; their width and height, None where properties say so."""


class TextConsole(NamedTuple):
    """What a character device `vc` shows its text on: `fixed` where its size was asked for, which is in pixels."""

    label: str
    width: int
    height: int
    fixed: bool


def text_console(label: str, size: Mapping[str, int]) -> TextConsole:
    """That of a device; its size may be asked for in pixels (`width`, `height`) or characters (`cols`, `rows`)."""
    width = size.get("width") or size.get("cols", _COLUMNS) * _WIDTH
    height = size.get("height") or size.get("rows", _ROWS) * _HEIGHT
    return TextConsole(label, width, height, bool(size))


class LitScreen(NamedTuple):
    """The console that SeaBIOS prints on, and the size of its picture where it has no text mode of its own."""

    console: Node
    size: tuple[int, int] | None


def add(tree: ObjectTree, console: Node) -> None:
    """Add a console behind those that there are."""
    screens = tree.container(BACKEND)
    number = next(each for each in count() if f"console[{each}]" not in screens.children)
    screens.add_child(f"console[{number}]", console)


def add_those_of(tree: ObjectTree, builder: Builder, captured: list[Any], device: Node) -> None:
    """Add the consoles of a device; one that has several outputs has one for each of them."""
    outputs = device.value(_OUTPUTS) or 1
    for each in captured:
        for head in range(outputs if len(captured) == 1 else 1):
            console = builder.build(each, device)
            if head:
                console.set_value("head", head)
            add(tree, console)


def add_text(tree: ObjectTree, types: Types, text: TextConsole) -> None:
    """Add what a character device shows its text on; some releases have a type for those of a fixed size."""
    kind = "qemu-fixed-text-console" if text.fixed else "qemu-text-console"
    if _CONSOLE in types.is_a(kind):
        console = Node(Shape([["type", "string", 0]], None), [kind])
    else:
        shape = Shape([["type", "string", 0], ["device", "link<device>", 0], ["head", "uint32", 0]], None)
        console = Node(shape, [_CONSOLE, "", 0])
    console.set_value(_TEXT, list(text))
    add(tree, console)


def consoles(tree: ObjectTree) -> list[Node]:
    """All of them, in their order."""
    container = tree.find(BACKEND)
    children = {} if container is None else container.children
    names = iter(f"console[{number}]" for number in range(len(children)))
    return [children[name] for name in names if name in children]


def text_of(console: Node) -> TextConsole | None:
    """What shows a character device's text; None for a device's console."""
    text = console.value(_TEXT)
    return None if text is None else TextConsole(*text)


def device_of(tree: ObjectTree, console: Node) -> Node | None:
    """The device that shows something there."""
    path = tree.plain(console, console.value("device"))
    return tree.find(path) if path else None


def find(tree: ObjectTree, device: Node, head: int) -> Node | None:
    """The console of a device's output."""
    found = (each for each in consoles(tree) if each.value("head") == head and text_of(each) is None)
    return next((each for each in found if device_of(tree, each) is device), None)


def lit(tree: ObjectTree) -> LitScreen | None:
    """Where SeaBIOS prints: on the last VGA, or else on the last of the others that it can draw text on.

    (Measured: the bus hands what the VGA is reached by to each in turn.)
    """
    shown = list(_with_devices(tree))
    for console, device in reversed(shown):
        if device.type in _VGA:
            return LitScreen(console, None)
    for console, device in reversed(shown):
        if device.type in _PLAIN_FRAMES:
            return LitScreen(console, _PLAIN_FRAMES[device.type] or (device.value("xres"), device.value("yres")))
    return None


def _with_devices(tree: ObjectTree) -> Iterator[tuple[Node, Node]]:
    for console in consoles(tree):
        device = device_of(tree, console)
        if device is not None and not console.value("head"):
            yield console, device
