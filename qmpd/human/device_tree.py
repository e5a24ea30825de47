"""The human monitor's `info qtree`: the buses of a machine, and the devices on them with their properties.

(QEMU's softmmu/qdev-monitor.c; integers, sizes and texts are written as its qapi/string-output-visitor.c does it for
people.)
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import NotModelled
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.hardware.buses import Bus, Device
    from qmpd.system.system import System

_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_NOTHING = "<null>"


def device_tree(system: System, *, brief: bool) -> str:
    """The text, without the properties where it is to be `brief`.

    :raise NotModelled: it is not known what QEMU shows of a device.
    """
    root = system.devices.buses.root
    if root is None:
        return ""
    return "".join(f"{line}\n" for line in _Page(system, brief=brief).bus(root, ""))


class _Page:
    """The lines; how many devices of each type there were so far is kept."""

    def __init__(self, system: System, *, brief: bool) -> None:
        self._system = system
        self._brief = brief
        self._seen: Counter[str] = Counter()
        self._own = system.release.hardware.find("qtree-of", system.settings.board.family) or {}

    def bus(self, bus: Bus, indent: str) -> Iterator[str]:
        """A bus and what is on it."""
        yield f"{indent}bus: {bus.name}"
        yield f"{indent}  type {bus.type}"
        for device in bus.children:
            yield f'{indent}  dev: {device.driver}, id "{device.identifier or ""}"'
            if not self._brief:
                yield from (f"{indent}    {line}" for line in self._details(device))
            for below in device.buses:
                yield from self.bus(below, f"{indent}    ")

    def _details(self, device: Device) -> Iterator[str]:
        known = self._system.release.hardware.find("qtree", device.driver)
        if known is None:
            raise NotModelled(f"what info qtree shows of a device of type {device.driver}")
        around, own = known, self._own.get(device.driver, ())
        if self._seen[device.driver] < len(own):
            around = own[self._seen[device.driver]]
        self._seen[device.driver] += 1
        yield from around.get("before", ())
        for name in known.get("properties", ()):
            said = _property(self._system, device, name)
            if said is not None:
                yield f"{name} = {said}"
        yield from (_placed(device, line) for line in around.get("after", ()))


def _placed(device: Device, line: str) -> str:
    """A line about a device, with where it is."""
    if "«address»" in line:
        place = device.slot if isinstance(device.slot, int) else 0
        return line.replace("«address»", f"00:{place >> 3:02x}.{place & 7}")
    return line.replace("«port»", str(device.slot or ""))


def _property(system: System, device: Device, name: str) -> str | None:
    """What a property is shown to be; None where it cannot be read."""
    node, tree = device.node, system.tree
    try:
        if node.property(f"legacy-{name}") is not None:
            return str(tree.get(node, f"legacy-{name}")) or _NOTHING
        found = node.property(name)
        if found is None:
            return None
        value = tree.get(node, name)
        if name == "addr" and isinstance(value, int) and device.bus is not None and "PCI" in device.bus.types:
            # Newer releases write it by hand, where older ones have a property with the text.
            return "<unset>" if value < 0 else f"{value >> 3:02x}.{value & 7:x}"
        return _spelled(value, found.kind)
    except MachineError:
        return None


def _spelled(value: Any, kind: str) -> str:
    """A value as people read it."""
    if value is None:
        return _NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if kind == "size":
            return f"{value} ({_size(value)})"
        # Those that do not fit are taken for negative.
        signed = value - (1 << 64) if value >> 63 > 0 else value
        return f"{signed} (0x{value & (1 << 64) - 1:x})"
    if isinstance(value, float):
        return f"{value:f}"
    if isinstance(value, list):
        return ", ".join(_spelled(each, "") for each in value) or _NOTHING
    return f'"{value}"'


def _size(value: int) -> str:
    """A number of bytes, in three digits (QEMU's `size_to_str`)."""
    exponent = math.frexp(value / (1000 / 1024))[1]
    unit = max(exponent - 1, 0) // 10
    return f"{value / (1 << 10 * unit):.3g} {_UNITS[unit]}B"
