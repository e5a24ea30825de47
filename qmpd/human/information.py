"""What the human monitor's `info` shows of the parts of a machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import NotModelled
from qmpd.human import dirty_pages, migration
from qmpd.human.asking import answer, ask
from qmpd.human.declared import declare, read
from qmpd.human.inquiries import INQUIRIES
from qmpd.human.jobs import info_jobs
from qmpd.human.network import info_network
from qmpd.human.snapshots import info_snapshots

if TYPE_CHECKING:
    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.system.system import System

_BLOCK = declare("nodes:-n verbose:-v device:device?")
_MEBIBYTE = 1 << 20


# The limits of a drive, as they are shown, and those of which one has to be there.
_THROTTLING = tuple(
    f"{unit}{way}{part}" for unit in ("bps", "iops") for part in ("", "_max") for way in ("", "_rd", "_wr")
)
_RATES = tuple(name for name in _THROTTLING if not name.endswith("_max"))


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
        said += f"  addr: 0x{data['addr']:x}\n  slot: {data['slot']}\n  node: {data['node']}\n"
        said += f"  size: {data['size']}\n  memdev: {data['memdev']}\n"
        said += "".join(f"  {name}: {str(data[name]).lower()}\n" for name in ("hotplugged", "hotpluggable"))
    return said


def _info_block(system: System, line: Line) -> str:
    values = read(line, _BLOCK)
    nodes, wanted = values["nodes"], values.get("device")
    if values["verbose"]:
        raise NotModelled("'info block -v'")
    said = "" if nodes else _drives(ask(system, "query-block"), wanted, "device")
    if said or (wanted is None and not nodes):
        return said
    shown = [
        {"device": "", "removable": False, "node-name": each["node-name"], "inserted": each}
        for each in ask(system, "query-named-block-nodes")
    ]
    return _drives(shown, wanted, "node-name")


def _drives(listed: list[dict[str, Any]], wanted: str | None, name: str) -> str:
    """Those that are wanted; each has an empty line before it that does not come first among all."""
    chosen = [(number, each) for number, each in enumerate(listed) if wanted is None or wanted == each[name]]
    return "".join(("\n" if number else "") + _drive(each) for number, each in chosen)


def _drive(shown: dict[str, Any]) -> str:
    inserted: dict[str, Any] | None = shown.get("inserted")
    text: str
    if shown["device"]:
        text = shown["device"] + (f" ({inserted['node-name']})" if inserted is not None else "")
    else:
        text = inserted["node-name"] if inserted is not None else shown.get("qdev", "<anonymous>")
    if inserted is None:
        text += ": [not inserted]\n"
    else:
        text += f": {inserted['file']} ({inserted['drv']}{', read-only' if inserted['ro'] else ''})\n"
    if "qdev" in shown:
        text += f"    Attached to:      {shown['qdev']}\n"
    if shown["removable"]:
        locked, tray = "" if shown["locked"] else "not ", "open" if shown.get("tray_open") else "closed"
        text += f"    Removable device: {locked}locked, tray {tray}\n"
    if inserted is None:
        return text
    cache = inserted["cache"]
    modes = ["writeback" if cache["writeback"] else "writethrough"]
    modes += ["direct"] if cache["direct"] else []
    modes += ["ignore flushes"] if cache["no-flush"] else []
    text += f"    Cache mode:       {', '.join(modes)}\n"
    if "backing_file" in inserted:
        text += f"    Backing file:     {inserted['backing_file']} (chain depth: {inserted['backing_file_depth']})\n"
    if inserted["detect_zeroes"] != "off":
        text += f"    Detect zeroes:    {inserted['detect_zeroes']}\n"
    if any(inserted.get(name) for name in _RATES):
        limits = " ".join(f"{name}={inserted.get(name, 0)}" for name in (*_THROTTLING, "iops_size"))
        text += f"    I/O throttling:   {limits} group={inserted['group']}\n"
    return text


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
    text = f"{len(sizes)} nodes\n"
    for node, size in enumerate(sizes):
        cpus = [index for index in range(settings.topology.cpus) if settings.node_of_cpu(index) == node]
        text += f"node {node} cpus:{''.join(f' {index}' for index in cpus)}\n"
        text += f"node {node} size: {size // _MEBIBYTE} MB\nnode {node} plugged: 0 MB\n"
    return text


INFORMATION: dict[str, Part] = {
    **INQUIRIES,
    **dirty_pages.INQUIRIES,
    **migration.INQUIRIES,
    "balloon": _info_balloon,
    "block": _info_block,
    "block-jobs": info_jobs,
    "chardev": _info_chardev,
    "dump": _info_dump,
    "memory-devices": _info_memory_devices,
    "mice": _info_mice,
    "memory_size_summary": _info_memory_size,
    "network": info_network,
    "numa": _info_numa,
    "snapshots": info_snapshots,
}
"""What `info` shows, by the words after it."""
