"""What `-drive` and `drive_add` say of a drive, as the options of its nodes and of itself.  (QEMU's blockdev.c.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.drivers.table import DRIVERS
from qmpd.block.filenames import check_null, parse
from qmpd.block.flat import Flat, flatten
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


def node_options(given: Mapping[str, str], json_parser: str) -> Flat | None:
    """The options of a drive's node; None where nothing is in it.  A driver that is not told is to be looked for.

    :raise Refusal: the name of its file is none.
    """
    own = {
        name: value for name, value in given.items()
        if name not in _OF_DRIVE and not name.startswith(("throttling.", "stats-intervals."))
    }  # fmt: skip
    if given.get("driver") == "nbd" and "file" not in given and "path" in given:
        own["path"] = given["path"]
    driver, file = given.get("format") or given.get("driver"), given.get("file")
    if not file and driver is None and not any(name.startswith("file.") for name in own):
        return None
    found: dict[str, Any] = _of_name(file, driver, own.get("file.driver"), json_parser) if file else {}
    if driver is not None:
        found["driver"] = driver
    read_only = is_on(given.get("readonly", given.get("read-only", "off")))
    direct, no_flush, _ = CACHES.get(given.get("cache", ""), CACHES["writeback"])
    # What is so by default is no option that a node was given.
    aio = given.get("aio", _USUAL_AIO)
    if aio != _USUAL_AIO and _is_bottom(str(found.get("file.driver"))):
        found["file.aio"] = aio
    found |= {"read-only": read_only, "cache.direct": direct, "cache.no-flush": no_flush}
    if not read_only:
        found["auto-read-only"] = True
    return Flat({**found, **own})


def _of_name(file: str, driver: str | None, below: str | None, json_parser: str) -> dict[str, Any]:
    """What the name of a file tells, flat; `below` is the driver of the file itself, where that is told.

    :raise Refusal: it is none.
    """
    if not file.startswith("json:"):
        if driver is not None and _is_bottom(driver):
            check_null(driver, file)
            return {"filename": file}
        if below is not None and _is_bottom(below):
            check_null(below, file)
    named = parse(file, json_parser)
    # A driver that has names of its own may be told beside one.
    is_own = driver is not None and named.get("driver") == driver and DRIVERS[driver].is_protocol
    return dict(named if isinstance(named, Flat) else flatten(named if is_own else {"file": named}))


def _is_bottom(driver: str) -> bool:
    """Whether a driver is given a file's name itself."""
    known = DRIVERS.get(driver)
    return known is not None and known.is_protocol and not known.is_filter
