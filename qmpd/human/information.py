"""What the human monitor's `info` shows of the parts of a machine."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from qmpd.human import cpus, dirty_pages, migration
from qmpd.human.asking import answer, ask
from qmpd.human.blocks import info_block, info_blockstats
from qmpd.human.inquiries import INQUIRIES
from qmpd.human.jobs import info_jobs
from qmpd.human.network import info_network
from qmpd.human.pci import info_pci
from qmpd.human.snapshots import info_snapshots

if TYPE_CHECKING:
    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.system.system import System

_MEBIBYTE = 1 << 20
# What is shown of memory that is plugged in, by its kind.
_MEMORY = {
    "virtio-mem": ("memaddr", "node", "requested-size", "size", "max-size", "block-size", "memdev"),
    "virtio-pmem": ("memaddr", "size", "memdev"),
}
_DIMM = ("addr", "slot", "node", "size", "memdev", "hotplugged", "hotpluggable")


def _info_balloon(system: System, line: Line) -> str:
    line.end()
    return f"balloon: actual={ask(system, 'query-balloon')['actual'] // _MEBIBYTE}\n"


def _info_chardev(system: System, line: Line) -> str:
    line.end()
    listed = ask(system, "query-chardev")
    return "".join(f"{each['label']}: filename={each['filename']}\n" for each in listed)


def _info_memory_size(system: System, line: Line) -> str:
    line.end()
    sizes = ask(system, "query-memory-size-summary")
    return f"base memory: {sizes['base-memory']}\nplugged memory: {sizes['plugged-memory']}\n"


def _info_memory_devices(system: System, line: Line) -> str:
    line.end()
    said = ""
    for each in ask(system, "query-memory-devices"):
        data = each["data"]
        said += f'Memory device [{each["type"]}]: "{data.get("id", "")}"\n'
        for name in _MEMORY.get(each["type"], _DIMM):
            value = data[name]
            if name.endswith("addr"):
                value = f"0x{value:x}"
            said += f"  {name}: {str(value).lower() if isinstance(value, bool) else value}\n"
    return said


def _info_mice(system: System, line: Line) -> str:
    line.end()
    listed = answer(system, "query-mice")
    said = [
        f"{'*' if each['current'] else ' '} Mouse #{each['index']}: {each['name']}"
        f"{' (absolute)' if each['absolute'] else ''}\n"
        for each in listed
    ]
    return "".join(said) or "No mouse devices connected\n"


def _info_dump(system: System, line: Line) -> str:
    line.end()
    found = ask(system, "query-dump")
    said = f"Status: {found['status']}\n"
    if found["status"] == "active":
        said += f"Finished: {100 * found['completed'] / found['total']:.2f} %\n"
    return said


def _info_numa(system: System, line: Line) -> str:
    line.end()
    settings = system.settings
    sizes = settings.node_memory or ([settings.memory] if settings.memory_slots else [])
    plugged: Counter[int] = Counter()
    for each in ask(system, "query-memory-devices"):
        plugged[each["data"].get("node", 0)] += each["data"]["size"]
    text = f"{len(sizes)} nodes\n"
    for node, size in enumerate(sizes):
        indexes = [index for index in range(settings.topology.cpus) if settings.node_of_cpu(index) == node]
        text += f"node {node} cpus:{''.join(f' {index}' for index in indexes)}\n"
        text += f"node {node} size: {(size + plugged[node]) // _MEBIBYTE} MB\n"
        text += f"node {node} plugged: {plugged[node] // _MEBIBYTE} MB\n"
    return text


INFORMATION: dict[str, Part] = {
    **INQUIRIES,
    **cpus.INQUIRIES,
    **dirty_pages.INQUIRIES,
    **migration.INQUIRIES,
    "balloon": _info_balloon,
    "block": info_block,
    "block-jobs": info_jobs,
    "blockstats": info_blockstats,
    "chardev": _info_chardev,
    "dump": _info_dump,
    "memory-devices": _info_memory_devices,
    "mice": _info_mice,
    "memory_size_summary": _info_memory_size,
    "network": info_network,
    "pci": info_pci,
    "numa": _info_numa,
    "snapshots": info_snapshots,
}
"""What `info` shows, by the words after it."""
