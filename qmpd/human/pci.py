"""What `info pci` shows: the buses of PCI and what is on them, as query-pci tells them (hw/pci/pci-hmp-cmds.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import NotModelled
from qmpd.human.asking import answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.human.line import Line
    from qmpd.system.system import System

_UNMAPPED = -1
_UNSIGNED_64 = (1 << 64) - 1


def info_pci(system: System, line: Line) -> str:
    """The text; where there is no such bus it says so.

    :raise Misread: something follows.
    :raise Refusal: query-pci is refused, or the firmware has run, whose choice of addresses is not modelled.
    """
    line.end()
    if system.guest is not None and system.guest.starts:
        raise NotModelled("'info pci' once the firmware has given out addresses")
    told = system.release.behaviour.unmapped_regions_told
    buses: list[dict[str, Any]] = answer(system, "query-pci")
    return "".join(f"{each}\n" for bus in buses for device in bus["devices"] for each in _lines(device, told=told))


def _lines(device: dict[str, Any], *, told: bool) -> Iterator[str]:
    kind, called = device["class_info"], device["id"]
    yield f"  Bus {device['bus']:2}, device {device['slot']:3}, function {device['function']}:"
    title = kind.get("desc") or f"Class {kind['class']:04}"
    yield f"    {title}: PCI device {called['vendor']:04x}:{called['device']:04x}"
    if "subsystem" in called and "subsystem-vendor" in called:
        yield f"      PCI subsystem {called['subsystem-vendor']:04x}:{called['subsystem']:04x}"
    if "irq" in device:
        yield f"      IRQ {device['irq']}, pin {chr(ord('A') + device['irq_pin'] - 1)}"
    bridge = device.get("pci_bridge")
    if bridge is not None:
        bus = bridge["bus"]
        yield f"      BUS {bus['number']}."
        yield f"      secondary bus {bus['secondary']}."
        yield f"      subordinate bus {bus['subordinate']}."
        yield f"      IO range {_range(bus['io_range'], 4)}"
        yield f"      memory range {_range(bus['memory_range'], 8)}"
        yield f"      prefetchable memory range {_range(bus['prefetchable_range'], 8)}"
    name = device["qdev_id"]
    for region in device["regions"]:
        yield f"      BAR{region['bar']}: {_region(region, told=told)}"
    yield f'      id "{name}"'
    if bridge is not None:
        for below in bridge.get("devices", ()):
            yield from _lines(below, told=told)


def _range(shown: dict[str, int], digits: int) -> str:
    return f"[0x{shown['base']:0{digits}x}, 0x{shown['limit']:0{digits}x}]"


def _region(region: dict[str, Any], *, told: bool) -> str:
    """What is said of a region; `told`: it is, where it has no address."""
    if region["type"] == "io":
        kind, digits = "I/O", 4
    else:
        width, kept = 64 if region["mem_type_64"] else 32, " prefetchable" if region["prefetch"] else ""
        kind, digits = f"{width} bit{kept} memory", 8
    if told and region["address"] == _UNMAPPED:
        return f"{kind} (not mapped)"
    start = region["address"] & _UNSIGNED_64
    end = start + region["size"] - 1 & _UNSIGNED_64
    return f"{kind} at 0x{start:0{digits}x} [0x{end:0{digits}x}]."
