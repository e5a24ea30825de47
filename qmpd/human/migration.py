"""The human monitor's words about migrations (QEMU's migration/migration-hmp-cmds.c).

Which parameters a release tells of, and in which order, is captured (`qmpd.capture.migration_lines`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.common.refusals import NotModelled
from qmpd.human.asking import answer, call, execute
from qmpd.human.declared import Shorter, acting, declare, read
from qmpd.human.errors import Misread
from qmpd.human.snapshots import size_text
from qmpd.qapi.introspection import Object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.system.system import System

    Values = Mapping[str, Any]

_MAPPING = "block-bitmap-mapping"
_AFTER_MAPPING = "x-vcpu-dirty-limit-period:"
_FAILED = "failed"
_MIGRATE, _OLDER_MIGRATE = declare("detach:-d resume:-r uri:string"), declare(
    "detach:-d blk:-b inc:-i resume:-r uri:string"
)
_DETACHED = "terminal does not allow synchronous migration, continuing detached\n"
_TIME = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)([a-z]*)", re.IGNORECASE)
_UNITS = {"": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


class _Line(NamedTuple):
    """A line: the member that it tells, its words, and how that is spelled; `always`, or where there is some of it."""

    member: str
    words: str
    spell: Callable[[Any], object] = str
    always: bool = True


def _kibibytes(value: int) -> int:
    # As QEMU has it, a number without a sign.
    return value % (1 << 64) >> 10


def _rate(value: float) -> str:
    return f"{value:.2f}"


_TIMES = (
    _Line("expected-downtime", "expected downtime: {} ms"),
    _Line("downtime", "downtime: {} ms"),
    _Line("setup-time", "setup: {} ms"),
)
_RAM = (
    _Line("transferred", "transferred ram: {} kbytes", _kibibytes),
    _Line("mbps", "throughput: {} mbps", _rate),
    _Line("remaining", "remaining ram: {} kbytes", _kibibytes),
    _Line("total", "total ram: {} kbytes", _kibibytes),
    _Line("duplicate", "duplicate: {} pages"),
    _Line("skipped", "skipped: {} pages"),
    _Line("normal", "normal: {} pages"),
    _Line("normal-bytes", "normal bytes: {} kbytes", _kibibytes),
    _Line("dirty-sync-count", "dirty sync count: {}"),
    _Line("page-size", "page size: {} kbytes", _kibibytes),
    _Line("multifd-bytes", "multifd bytes: {} kbytes", _kibibytes),
    _Line("pages-per-second", "pages-per-second: {}"),
    _Line("dirty-pages-rate", "dirty pages rate: {} pages", always=False),
    _Line("postcopy-requests", "postcopy request count: {}", always=False),
    _Line("precopy-bytes", "precopy ram: {} kbytes", _kibibytes, always=False),
    _Line("downtime-bytes", "downtime ram: {} kbytes", _kibibytes, always=False),
    _Line("postcopy-bytes", "postcopy ram: {} kbytes", _kibibytes, always=False),
    _Line("dirty-sync-missed-zero-copy", "Zero-copy-send fallbacks happened: {} times", always=False),
)
_DISK = (
    _Line("transferred", "transferred disk: {} kbytes", _kibibytes),
    _Line("remaining", "remaining disk: {} kbytes", _kibibytes),
    _Line("total", "total disk: {} kbytes", _kibibytes),
)
_CACHE = (
    _Line("cache-size", "cache size: {} bytes"),
    _Line("bytes", "xbzrle transferred: {} kbytes", _kibibytes),
    _Line("pages", "xbzrle pages: {} pages"),
    _Line("cache-miss", "xbzrle cache miss: {} pages"),
    _Line("cache-miss-rate", "xbzrle cache miss rate: {}", _rate),
    _Line("encoding-rate", "xbzrle encoding rate: {}", _rate),
    _Line("overflow", "xbzrle overflow: {}"),
)
_COMPRESSION = (
    _Line("pages", "compression pages: {} pages"),
    _Line("busy", "compression busy: {}"),
    _Line("busy-rate", "compression busy rate: {}", _rate),
    _Line("compressed-size", "compressed size: {} kbytes", _kibibytes),
    _Line("compression-rate", "compression rate: {}", _rate),
)
_GROUPS = (("ram", _RAM), ("disk", _DISK), ("xbzrle-cache", _CACHE), ("compression", _COMPRESSION))
_REST = (
    _Line("cpu-throttle-percentage", "cpu throttle percentage: {}"),
    _Line("postcopy-blocktime", "postcopy blocktime: {}"),
    _Line("postcopy-vcpu-blocktime", "postcopy vcpu blocktime: {}", lambda times: ",".join(map(str, times))),
)


def _lines(found: Mapping[str, Any], lines: Iterable[_Line]) -> list[str]:
    return [
        each.words.format(each.spell(found[each.member]))
        for each in lines
        if each.member in found and (each.always or found[each.member])
    ]


def _globals(system: System) -> list[str]:
    """What is told of every machine's migrations."""
    only = "on" if system.settings.only_migratable else "off"
    return system.release.human_monitor.migrate_globals.format(only).splitlines()


def _status(found: Mapping[str, Any]) -> str:
    state = found["status"]
    # What went wrong is told where it is over; some releases tell it of a pause, too.
    return f"{state} ({found['error-desc']})" if "error-desc" in found else str(state)


def _plain(system: System, found: Mapping[str, Any]) -> list[str]:
    told = _globals(system)
    if "blocked-reasons" in found:
        told += ["Outgoing migration blocked:", *(f"  {each}" for each in found["blocked-reasons"])]
    if "status" in found:
        status = _status(found) if found["status"] == _FAILED else found["status"]
        told += [f"Migration status: {status}", f"total time: {found.get('total-time', 0)} ms"]
        told += _lines(found, _TIMES)
    for name, lines in _GROUPS:
        if name in found:
            told += _lines(found[name], lines)
    told += _lines(found, _REST)
    return [*told, *_addresses(found, "socket address")]


def _addresses(found: Mapping[str, Any], words: str) -> list[str]:
    if "socket-address" not in found:
        return []
    return [f"{words}: [", *(f"\t{_address(each)}" for each in found["socket-address"]), "]"]


def _address(address: Mapping[str, Any]) -> str:
    if address["type"] == "inet":
        host = address["host"]
        return f"tcp:[{host}]:{address['port']}" if ":" in host else f"tcp:{host}:{address['port']}"
    if address["type"] == "unix":
        return f"unix:{address['path']}"
    raise NotModelled(f"how info migrate tells of an address of the type {address['type']}")


# From 11.1 on: in a table, and all only where that is asked for.


def _table(system: System, found: Mapping[str, Any], *, whole: bool) -> list[str]:
    told: list[str] = []
    if "blocked-reasons" in found:
        told += ["Outgoing migration blocked:", *(f"  {each}" for each in found["blocked-reasons"])]
    if "status" in found:
        told.append(f"Status: \t\t{_status(found)}")
    if found.get("total-time"):
        told.append(f"Time (ms): \t\t{_times(found)}")
    if "remaining" in found:
        told.append(f"Remaining: \t\t{size_text(found['remaining'])}")
    if "ram" in found:
        told += _memory(found["ram"])
    told += _addresses(found, "Sockets")
    return [*told, *_more(system, found)] if whole else told


def _times(found: Mapping[str, Any]) -> str:
    names = {"total-time": "total", "setup-time": "setup", "expected-downtime": "exp_down", "downtime": "down"}
    return ", ".join(f"{short}={found[name]}" for name, short in names.items() if name in found)


def _memory(ram: Mapping[str, Any]) -> list[str]:
    size = {name: size_text(value) for name, value in ram.items() if isinstance(value, int) and value >= 0}
    dirty = f", dirty={ram['dirty-pages-rate']}" if ram["dirty-pages-rate"] else ""
    others = {
        "postcopy_req": ram["postcopy-requests"],
        "downtime_bytes": ram["downtime-bytes"],
        "zerocopy_fallbacks": ram["dirty-sync-missed-zero-copy"],
    }
    seldom = "".join(f", {name}={value}" for name, value in others.items() if value)
    return [
        "RAM info:",
        f"  Throughput (Mbps): \t{ram['mbps']:.2f}",
        f"  Sizes: \t\tpagesize={size['page-size']}, total={size['total']}",
        f"  Transfers: \t\ttransferred={size['transferred']}, remain={size['remaining']}",
        f"    Channels: \t\tprecopy={size['precopy-bytes']}, multifd={size['multifd-bytes']},"
        f" postcopy={size['postcopy-bytes']}",
        f"    Page Types: \tnormal={ram['normal']}, zero={ram['duplicate']}",
        f"  Page Rates (pps): \ttransfer={ram['pages-per-second']}{dirty}",
        f"  Others: \t\tdirty_syncs={ram['dirty-sync-count']}{seldom}",
    ]


def _more(system: System, found: Mapping[str, Any]) -> list[str]:
    told = _globals(system)
    cache = found.get("xbzrle-cache")
    if cache is not None:
        told += [
            f"XBZRLE: size={cache['cache-size']}, transferred={cache['bytes']}, pages={cache['pages']},"
            f" miss={cache['cache-miss']}",
            f"  miss_rate={cache['cache-miss-rate']:.2f}, encode_rate={cache['encoding-rate']:.2f},"
            f" overflow={cache['overflow']}",
        ]
    told += _lines(found, _WHOLE)
    return [*told, *_latencies(found.get("postcopy-latency-dist", ()))]


def _listed(values: Iterable[int]) -> str:
    return f"[{', '.join(map(str, values))}]"


_WHOLE = (
    _Line("cpu-throttle-percentage", "CPU Throttle (%): {}"),
    _Line("postcopy-blocktime", "Postcopy Blocktime (ms): {}"),
    _Line("postcopy-vcpu-blocktime", "Postcopy vCPU Blocktime (ms):\n {}", _listed),
    _Line("postcopy-latency", "Postcopy Latency (ns): {}"),
    _Line("postcopy-non-vcpu-latency", "Postcopy non-vCPU Latency (ns): {}"),
    _Line("postcopy-vcpu-latency", "Postcopy vCPU Latencies (ns):\n {}", _listed),
)


def _latencies(counts: Iterable[int]) -> list[str]:
    told = [
        f"  [ {_moment(number):>8} - {_moment(number + 1):>8} ]: {count:10}" for number, count in enumerate(counts)
    ]
    return ["Postcopy Latency Distribution:", *told] if told else []


def _moment(number: int) -> str:
    """Two to this power, in microseconds."""
    value = 1 << number
    for unit in ("us", "ms"):
        if value < 1000:
            return f"{value} {unit}"
        value //= 1000
    return f"{value} sec"


def _show(system: System, values: Values) -> str:
    found = answer(system, "query-migrate")
    if system.release.behaviour.migration_told_whole:
        told = _table(system, found, whole=values["all"])
    else:
        told = _plain(system, found)
    return "".join(f"{line}\n" for line in told)


def _capabilities(system: System, values: Values) -> str:
    known = answer(system, "query-migrate-capabilities")
    return "".join(f"{each['capability']}: {_spelled(each['state'])}\n" for each in known)


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return "".join(f" {each}" for each in value)
    return str(value)


def _parameters(system: System, values: Values) -> str:
    known = answer(system, "query-migrate-parameters")
    lines = system.release.human_monitor.migrate_parameters.splitlines()
    told = [(line, line.format(_spelled(known.get(line.partition(":")[0], "")))) for line in lines]
    mapping = _bitmaps(known[_MAPPING]) if _MAPPING in known else []
    place = next((number for number, (line, _) in enumerate(told) if line.startswith(_AFTER_MAPPING)), len(told))
    whole = [line for _, line in told]
    whole[place:place] = mapping
    return "".join(f"{line}\n" for line in whole)


def _bitmaps(mapping: Iterable[Mapping[str, Any]]) -> list[str]:
    told = [f"{_MAPPING}:"]
    for node in mapping:
        told.append(f"  '{node['node-name']}' -> '{node['alias']}'")
        told += [f"    '{each['name']}' -> '{each['alias']}'" for each in node["bitmaps"]]
    return told


# Commands


def _migrate(system: System, line: Line) -> str:
    known = system.release.introspection
    taken = known.type(known.command("migrate").arguments)
    assert isinstance(taken, Object)
    older = any(each.name == "blk" for each in taken.members)
    values = read(line, _OLDER_MIGRATE if older else _MIGRATE)
    switches = {name: True for name in ("blk", "inc", "resume") if values.get(name)}
    execute(system, "migrate", {"uri": values["uri"], **switches}, line)
    # Who asks over QMP is not kept waiting.
    is_told = not values["detach"] and line.client is not None and system.release.behaviour.detached_migration_told
    return _DETACHED if is_told else ""


def _setting(name: str, kind: str = "size") -> Part:
    """The line that sets one thing, as older releases have it."""

    def act(system: System, line: Line) -> str:
        values = read(line, declare(f"value:{kind}"))
        return execute(system, name, values)

    return act


def _set_downtime(system: System, line: Line) -> str:
    word = line.word()
    match = None if word is None else _TIME.match(word)
    if match is None:
        raise Misread("Number expected")
    if match[2] not in _UNITS or match[0] != word:
        raise Misread("Unknown unit suffix")
    line.end()
    return execute(system, "migrate_set_downtime", {"value": float(match[1]) * _UNITS[match[2]]})


def _cache_size(system: System, values: Values) -> str:
    return f"xbzrel cache size: {int(str(call(system, 'query-migrate-cache-size', {}))) >> 10} kbytes\n"


PARTS: dict[str, Part] = {
    "migrate": _migrate,
    "migrate_set_speed": _setting("migrate_set_speed", "mebibytes"),
    "migrate_set_downtime": _set_downtime,
    "migrate_set_cache_size": _setting("migrate-set-cache-size", "mebibytes"),
}
"""The commands, by their names."""
INQUIRIES: dict[str, Part] = {
    "migrate_cache_size": acting("the command info migrate_cache_size", (), _cache_size),
    "migrate": acting(
        "the command info migrate", declare("all:-a"), _show,
        Shorter(lambda behaviour: behaviour.migration_told_whole, ()),
    ),
    "migrate_capabilities": acting("the command info migrate_capabilities", (), _capabilities),
    "migrate_parameters": acting("the command info migrate_parameters", (), _parameters),
}  # fmt: skip
"""What `info` shows, by the words after it."""
