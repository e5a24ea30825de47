"""`info block` and `info blockstats` of the human monitor: drives, nodes, their images, and what was done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.dictionary_order import in_order
from qmpd.human.asking import ask
from qmpd.human.declared import declare, read
from qmpd.human.snapshots import COLUMNS, size_text, snapshot_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qmpd.human.line import Line
    from qmpd.human.snapshots import Columns
    from qmpd.system.system import System

_BLOCK = declare("nodes:-n verbose:-v device:device?")

# The limits of a drive, as they are shown, and those of which one has to be there.
_THROTTLING = tuple(
    f"{unit}{way}{part}" for unit in ("bps", "iops") for part in ("", "_max") for way in ("", "_rd", "_wr")
)
_RATES = tuple(name for name in _THROTTLING if not name.endswith("_max"))

# The counts of a drive on one line, in the order in which they are shown.
_COUNTS = (
    "rd_bytes", "wr_bytes", "rd_operations", "wr_operations", "flush_operations", "wr_total_time_ns",
    "rd_total_time_ns", "flush_total_time_ns", "rd_merged", "wr_merged", "idle_time_ns",
)  # fmt: skip
# The same as a table, as newer releases show it: a column is a kind of count, a row a kind of request.
_ROW = "{:<10}{:>21}{:>17}{:>25}{:>11}"


def info_block(system: System, line: Line) -> str:
    """The drives, or the nodes, and with `-v` their images."""
    values = read(line, _BLOCK)
    nodes, wanted = values["nodes"], values.get("device")
    columns = COLUMNS[system.release.behaviour.snapshot_columns] if values["verbose"] else None
    said = "" if nodes else _drives(ask(system, "query-block"), wanted, "device", columns)
    if said or (wanted is None and not nodes):
        return said
    shown = [
        {"device": "", "removable": False, "node-name": each["node-name"], "inserted": each}
        for each in ask(system, "query-named-block-nodes")
    ]
    return _drives(shown, wanted, "node-name", columns)


def _drives(listed: list[dict[str, Any]], wanted: str | None, name: str, columns: Columns | None) -> str:
    """Those that are wanted; each has an empty line before it that does not come first among all."""
    chosen = [(number, each) for number, each in enumerate(listed) if wanted is None or wanted == each[name]]
    return "".join(("\n" if number else "") + _drive(each, columns) for number, each in chosen)


def _drive(shown: dict[str, Any], columns: Columns | None) -> str:
    """One of them; its images are told of, too, where there are `columns` for their snapshots."""
    inserted: dict[str, Any] | None = shown.get("inserted")
    text: str
    if shown["device"]:
        text = shown["device"] + (f" ({inserted['node-name']})" if inserted is not None else "")
    else:
        text = inserted["node-name"] if inserted is not None else shown.get("qdev", "<anonymous>")
    if inserted is None:
        text += ": [not inserted]\n"
    else:
        marks = (", read-only" if inserted["ro"] else "") + (", encrypted" if inserted["encrypted"] else "")
        text += f": {inserted['file']} ({inserted['drv']}{marks})\n"
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
    if columns is not None:
        text += "\nImages:\n"
        image: dict[str, Any] | None = inserted["image"]
        while image is not None:
            text += _image(image, columns)
            image = image.get("backing-image")
    return text


def _image(image: dict[str, Any], columns: Columns) -> str:
    """One image, as `qemu-img info` tells of it."""
    size, taken = image["virtual-size"], image.get("actual-size")
    lines = [
        f"image: {image['filename']}",
        f"file format: {image['format']}",
        f"virtual size: {size_text(size)} ({size} bytes)",
        f"disk size: {'unavailable' if taken is None else size_text(taken)}",
    ]
    if image.get("encrypted"):
        lines.append("encrypted: yes")
    if "cluster-size" in image:
        lines.append(f"cluster_size: {image['cluster-size']}")
    if image.get("dirty-flag"):
        lines.append("cleanly shut down: no")
    if "backing-filename" in image:
        name, whole = image["backing-filename"], image.get("full-backing-filename")
        told = f"backing file: {name}"
        if whole is None:
            told += " (cannot determine actual path)"
        elif whole != name:
            told += f" (actual path: {whole})"
        lines.append(told)
        if "backing-filename-format" in image:
            lines.append(f"backing file format: {image['backing-filename-format']}")
    if "limits" in image:
        lines += ["Block limits:", *members(image["limits"], 1)]
    if image.get("snapshots"):
        lines += ["Snapshot list:", columns.line.format(*columns.names)]
        lines += [_snapshot(each, columns) for each in image["snapshots"]]
    specific = image.get("format-specific", {}).get("data")
    if specific:
        lines += ["Format specific information:", *members(specific, 1)]
    return "".join(f"{each}\n" for each in lines)


def _snapshot(told: dict[str, Any], columns: Columns) -> str:
    clock = told["vm-clock-sec"] * 1_000_000_000 + told["vm-clock-nsec"]
    return snapshot_line(
        columns, told["id"], told["name"], told["vm-state-size"], told["date-sec"], clock, told.get("icount")
    ).rstrip("\n")


def members(value: dict[str, Any] | list[Any], depth: int) -> Iterator[str]:
    """The members of an object or a list, one a line, those of inner ones behind their names."""
    pairs: list[tuple[str, Any]]
    if isinstance(value, dict):
        pairs = [(name.replace("-", " "), value[name]) for name in in_order(tuple(value))]
    else:
        pairs = [(f"[{number}]", each) for number, each in enumerate(value)]
    for name, each in pairs:
        head = f"{4 * depth * ' '}{name}:"
        if isinstance(each, (dict, list)):
            yield head
            yield from members(each, depth + 1)
        else:
            yield f"{head} {str(each).lower() if isinstance(each, bool) else each}"


def info_blockstats(system: System, line: Line) -> str:
    """What the users of each drive have done."""
    line.end()
    listed = [(each["device"], each["stats"]) for each in ask(system, "query-blockstats") if "device" in each]
    if not system.release.behaviour.block_statistics_table:
        return "".join(
            f"{name}:{''.join(f' {count}={stats.get(count, 0)}' for count in _COUNTS)}\n" for name, stats in listed
        )
    return "\n".join(_table(name, stats) for name, stats in listed)


def _table(name: str, stats: Mapping[str, Any]) -> str:
    """The counts of one drive."""
    text = f"{name}: idle_time_ns={stats.get('idle_time_ns', 0)}\n"
    text += _ROW.format("", "bytes", "operations", "total_time_ns", "merged") + "\n"
    for kind, way in (("Read:", "rd"), ("Write:", "wr")):
        counts = (stats[f"{way}_{what}"] for what in ("bytes", "operations", "total_time_ns", "merged"))
        text += _ROW.format(kind, *counts) + "\n"
    flushes = _ROW.format("Flush:", "", stats["flush_operations"], stats["flush_total_time_ns"], "")
    return text + flushes.rstrip() + "\n"
