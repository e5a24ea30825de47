"""Presets: what properties of devices begin with, where `-global` says so (QEMU's hw/core/qdev-properties.c).

They hold for all devices of a type and of those derived from it, the board's own and their parts among them, whenever
they come into being; what a device is given for itself comes after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.qom import reader as reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qmpd.common.texts import Texts
    from qmpd.machine.blueprint import Preset
    from qmpd.qom.node import Node
    from qmpd.qom.tree import Types

_DEVICE = "device"
# What boards decide for the devices that they bring.
OF_BOARDS = frozenset({"addr", "multifunction"})


BACK_ENDS = frozenset({"drive", "netdev", "chardev"})
"""The properties that are set once: what they name is a device's alone."""


def check_unset(
    presets: Sequence[Preset], types: Types, driver: str, name: str, value: object, *, passed_on: bool = False
) -> None:
    """Refuse to name another back end for a device that is to have one already; `passed_on`: it is a part's.

    :raise Refusal: it is to.
    """
    ancestors = types.is_a(driver) if name in BACK_ENDS else ()
    preset = next((each for each in presets if each.name == name and each.driver in ancestors), None)
    if preset is not None and passed_on:
        raise Refusal("global-override", name=name, value=value)
    if preset is not None:
        raise Refusal("global-conflict", driver=preset.driver, name=name, value=value)


def apply(
    presets: Sequence[Preset], nodes: Iterable[Node], types: Types, reader: reading.Reader, texts: Texts,
    *, cold: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Set them on devices that have just come into being; gives what was set on the first one, read.

    A value that a property does not take leaves it as it is: the command line was refused for it, or QEMU warns.

    :raise Refusal: a back end cannot be that of a device that is there before the machine is (`cold`).
    """
    first: dict[str, Any] = {}
    for index, node in enumerate(nodes):
        ancestors = types.is_a(node.type)
        if _DEVICE not in ancestors:
            continue
        for preset in presets:
            if preset.driver not in ancestors:
                continue
            try:
                to = reading.target(node, preset.name, texts)
                value = reader.read(to, preset.value, text=True)
            except Refusal as error:
                if cold and preset.name in BACK_ENDS:
                    told = {"driver": preset.driver, "name": preset.name, "value": preset.value}
                    raise Refusal("global-failed", **told, reason=error) from None
                continue
            _set(node, preset.name, value)
            if index == 0:
                first[preset.name] = value
    return first


def _set(node: Node, name: str, value: object) -> None:
    """Set a property, on the device that shows it as its own, too."""
    node.set_value(name, value)
    owner = node.parent
    if owner is not None and owner.property("hotplugged") is not None and owner.property(name) is not None:
        owner.set_value(name, value)
