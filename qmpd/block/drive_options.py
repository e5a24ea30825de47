"""What `-drive` and `drive_add` say of a drive, as the options of its nodes and of itself.  (QEMU's blockdev.c.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.drivers.table import DRIVERS
from qmpd.block.filenames import check_null, nested, parse, typed
from qmpd.block.values import is_on, number

if TYPE_CHECKING:
    from collections.abc import Mapping

CACHES = {
    "none": (True, False, True), "off": (True, False, True), "directsync": (True, False, False),
    "writeback": (False, False, True), "unsafe": (False, True, True), "writethrough": (False, False, False),
}  # fmt: skip
"""The modes of `cache`: whether the host's cache is passed by, flushes are ignored, and writes are confirmed early."""

# What is the drive's, or has been looked at before.
_OF_DRIVE = frozenset({
    "if", "id", "werror", "rerror", "readonly", "read-only", "media", "index", "bus", "unit", "place",
    "cache", "cache.writeback", "snapshot", "copy-on-read", "stats-account-invalid", "stats-account-failed", "path",
    "protocol", "file", "format", "driver", "aio",
})  # fmt: skip
_USUAL_AIO = "threads"
_LIMITS = tuple(
    (f"{kind}-{way}", f"{kind}{short}")
    for kind in ("bps", "iops")
    for way, short in (("total", ""), ("read", "_rd"), ("write", "_wr"))
)


def writeback(given: Mapping[str, str]) -> bool:
    """Whether a drive confirms writes before they survive."""
    if "cache.writeback" in given:
        return is_on(given["cache.writeback"])
    return CACHES.get(given.get("cache", "writeback"), CACHES["writeback"])[2]


def limits(given: Mapping[str, str], name: str) -> dict[str, Any] | None:
    """The limits of a drive, as queries tell them; None without any."""
    found: dict[str, Any] = {}
    for key, shown in _LIMITS:
        found[shown] = number(given.get(f"throttling.{key}", "0"))
    if not any(found.values()):
        return None
    for key, shown in _LIMITS:
        peak = number(given.get(f"throttling.{key}-max", "0"))
        if peak:
            found[f"{shown}_max"] = peak
            found[f"{shown}_max_length"] = number(given.get(f"throttling.{key}-max-length", "1"))
    size = number(given.get("throttling.iops-size", "0"))
    if size:
        found["iops_size"] = size
    return {**found, "group": given.get("throttling.group") or name}


def _overlaid(options: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Options, and more of the same; of a child, too, which both may describe."""
    found = {**options, **more}
    for name, value in more.items():
        before = options.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            found[name] = _overlaid(before, value)
    return found


def node_options(given: Mapping[str, str], json_parser: str) -> dict[str, Any] | None:
    """The options of a drive's node; None where nothing is in it.  A driver that is not told is to be looked for.

    :raise Refusal: the name of its file is none.
    """
    own = {
        name: value for name, value in given.items()
        if name not in _OF_DRIVE and not name.startswith(("throttling.", "stats-intervals."))
    }  # fmt: skip
    if given.get("driver") == "nbd" and "file" not in given and "path" in given:
        own["path"] = given["path"]
    rest = typed(nested(own))
    below: dict[str, Any] = rest.pop("file", {})
    driver, file = given.get("format") or given.get("driver"), given.get("file")
    if not file and not below and driver is None:
        return None
    found: dict[str, Any] = {}
    if file and file.startswith("json:"):
        found = parse(file, json_parser)
        if driver is not None and driver != found.get("driver"):
            found = {"driver": driver, "file": _overlaid(found, below)}
    elif file and driver is not None and _is_bottom(driver):
        check_null(driver, file)
        found = {"driver": driver, "filename": file}
    elif file:
        named = parse(file, json_parser)
        # A driver that has names of its own may be told beside one.
        is_own = driver is not None and named.get("driver") == driver and DRIVERS[driver].is_protocol
        found = named if is_own else {"file": _overlaid(named, below)}
    elif below:
        found = {"file": below}
    if driver is not None:
        found.setdefault("driver", driver)
    read_only = is_on(given.get("readonly", given.get("read-only", "off")))
    cache = dict(zip(("direct", "no-flush"), CACHES.get(given.get("cache", ""), CACHES["writeback"])[:2], strict=True))
    cache |= rest.pop("cache", {})
    # What is so by default is no option that a node was given.
    file_options = found.get("file")
    aio = given.get("aio", _USUAL_AIO)
    if aio != _USUAL_AIO and isinstance(file_options, dict) and _is_bottom(str(file_options.get("driver"))):
        found["file"] = {**file_options, "aio": aio}
    common: dict[str, Any] = {"read-only": read_only, "cache": cache}
    if not read_only:
        common["auto-read-only"] = True
    return {**common, **rest, **found}


def _is_bottom(driver: str) -> bool:
    """Whether a driver is given a file's name itself."""
    known = DRIVERS.get(driver)
    return known is not None and known.is_protocol and not known.is_filter
