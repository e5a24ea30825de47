"""What `query-migrate` tells of a migration (QAPI's `MigrationInfo`).  (QEMU's migration/migration.c.)

The sums add up: `transferred` is what was copied before the machine stopped, while it stood still and after it had gone
(`precopy-bytes`, `downtime-bytes`, `postcopy-bytes`) with what went through channels of its own (`multifd-bytes`); and
each page that was copied is one of `duplicate` (zeros) or of `normal`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.migration.memory import DATA_PAGE, PAGE, SECOND, ZERO_PAGE
from qmpd.migration.states import POSTCOPY, TOLD_IN_FULL, MigrationStatus

if TYPE_CHECKING:
    from qmpd.migration.disks import Leaving
    from qmpd.migration.incoming import Incoming
    from qmpd.migration.memory import Memory, Size
    from qmpd.migration.outgoing import Outgoing
    from qmpd.migration.side import Side
    from qmpd.qapi.migration import Course

_S = MigrationStatus
_MILLISECOND = 1_000_000
_NOTHING_MOVED = dict.fromkeys((
    "transferred", "remaining", "total", "duplicate", "normal", "normal-bytes", "dirty-pages-rate", "mbps",
    "dirty-sync-count", "postcopy-requests", "page-size", "multifd-bytes", "pages-per-second",
), 0)  # fmt: skip
"""QAPI's `MigrationStats`, but for the members that only some releases have."""
_LATENCIES = 24
"""The classes of latencies that are counted."""


def of_outgoing(outgoing: Outgoing, side: Side) -> dict[str, Any]:
    """Of a machine that goes, or has gone."""
    outgoing.look()
    state = outgoing.state
    if state is _S.NONE:
        return {}
    told: dict[str, Any] = {"status": str(state)}
    if outgoing.error is not None and _tells_reason(outgoing, side):
        told["error-desc"] = outgoing.error
    if outgoing.memory is None or not (state in TOLD_IN_FULL or state is _S.COMPLETED):
        return told
    told |= _times(outgoing, side)
    told["ram"] = _ram(outgoing, side)
    if side.course.remaining and state is not _S.COMPLETED:
        told["remaining"] = outgoing.memory.left * PAGE
    if outgoing.disks is not None and outgoing.disks.is_under_way:
        told["disk"] = _disks(outgoing.disks)
    if side.has("xbzrle"):
        told["xbzrle-cache"] = _cache(outgoing, side)
    if side.has("compress"):
        told["compression"] = _compression(outgoing)
    if outgoing.memory.throttle and state is not _S.COMPLETED:
        told["cpu-throttle-percentage"] = outgoing.memory.throttle
    return told


def of_saved(size: Size, course: Course) -> dict[str, Any]:
    """Of a machine whose state was saved in a snapshot (`savevm`): that is a migration which takes no time."""
    zero = size.pages - size.data
    sent = zero * ZERO_PAGE + size.data * DATA_PAGE
    told: dict[str, Any] = {
        **_NOTHING_MOVED,
        "transferred": sent,
        "total": size.pages * PAGE,
        "duplicate": zero,
        "normal": size.data,
        "normal-bytes": size.data * PAGE,
        "dirty-sync-count": 2 if course.first_pass else 1,
        "page-size": PAGE,
    }
    if course.skipped:
        told["skipped"] = 0
    if course.shares:
        told |= {"dirty-sync-missed-zero-copy": 0, "precopy-bytes": 0, "downtime-bytes": sent, "postcopy-bytes": 0}
    return {"status": str(_S.COMPLETED), "total-time": 0, "setup-time": 0, "downtime": 0, "ram": told}


_TOLD_WHY = (_S.CANCELLED, _S.PRE_SWITCHOVER)


def _tells_reason(outgoing: Outgoing, side: Side) -> bool:
    if outgoing.state is _S.FAILED:
        return True
    return side.course.reason_kept and (outgoing.state in POSTCOPY or outgoing.state in _TOLD_WHY)


def _times(outgoing: Outgoing, side: Side) -> dict[str, int]:
    """How long it has taken, in milliseconds, as far as that is known."""
    end = outgoing.ended_at if outgoing.ended_at is not None else outgoing.now
    times = {"total-time": (end - outgoing.began) // _MILLISECOND}
    if outgoing.set_up_at is not None:
        times["setup-time"] = (outgoing.set_up_at - outgoing.began) // _MILLISECOND
    is_known = outgoing.state is _S.COMPLETED or side.course.device
    if is_known and outgoing.arrived_at is not None and outgoing.stopped_at is not None:
        times["downtime"] = (outgoing.arrived_at - outgoing.stopped_at) // _MILLISECOND
    elif outgoing.memory is not None:
        times["expected-downtime"] = _expected_downtime(outgoing.memory, int(side.parameter("downtime-limit")))
    return times


def _expected_downtime(memory: Memory, limit: int) -> int:
    """The milliseconds for what the guest changes in a second; the limit where it changes nothing."""
    return memory.dirty_rate * PAGE * 1000 // memory.speed if memory.dirty_rate else limit


def _seconds(outgoing: Outgoing) -> float:
    """How long it has copied."""
    began = outgoing.set_up_at if outgoing.set_up_at is not None else outgoing.began
    end = outgoing.ended_at if outgoing.ended_at is not None else outgoing.now
    return max(end - began, _MILLISECOND) / SECOND


def _ram(outgoing: Outgoing, side: Side) -> dict[str, Any]:
    memory, course = outgoing.memory, side.course
    assert memory is not None
    over = outgoing.state is _S.COMPLETED
    channels = memory.data * PAGE if side.has("multifd") else 0
    told: dict[str, Any] = {
        "transferred": memory.sent,
        "remaining": 0 if over else memory.left * PAGE,
        "total": memory.total,
        "duplicate": memory.zero,
        "normal": memory.data,
        "normal-bytes": memory.data * PAGE,
        "dirty-pages-rate": 0 if over else memory.dirty_rate,
        "mbps": memory.sent * 8 / _seconds(outgoing) / 1_000_000,
        "dirty-sync-count": memory.passes,
        "postcopy-requests": outgoing.requests,
        "page-size": PAGE,
        "multifd-bytes": channels,
        "pages-per-second": int((memory.zero + memory.data) / _seconds(outgoing)),
    }
    if course.skipped:
        told["skipped"] = 0
    if course.shares:
        told["dirty-sync-missed-zero-copy"] = 0
        shares = [outgoing.sent_before, outgoing.sent_stopped, outgoing.sent_later]
        for index, share in enumerate(shares):
            part = min(share, channels)
            shares[index], channels = share - part, channels - part
        told["precopy-bytes"], told["downtime-bytes"], told["postcopy-bytes"] = shares
    return told


def _disks(disks: Leaving) -> dict[str, Any]:
    """How far the disks are that are copied along."""
    moved = {"total": disks.total, "remaining": disks.total - disks.transferred, "transferred": disks.transferred}
    return {**_NOTHING_MOVED, "skipped": 0, **moved}


def _cache(outgoing: Outgoing, side: Side) -> dict[str, Any]:
    """What `xbzrle` brings: pages that were copied before are compared with what they were."""
    memory = outgoing.memory
    assert memory is not None
    size = int(side.parameter("xbzrle-cache-size"))
    found = min(memory.resent, size // PAGE)
    missed = memory.resent - found
    return {
        "cache-size": size,
        "bytes": 0,
        "pages": found,
        "cache-miss": missed,
        "cache-miss-rate": missed / memory.resent if memory.resent else 0,
        "encoding-rate": 0,
        "overflow": 0,
    }


def _compression(outgoing: Outgoing) -> dict[str, Any]:
    """What `compress` brings, about: pages take a twentieth."""
    memory = outgoing.memory
    assert memory is not None
    size = memory.data * PAGE // 20
    return {
        "pages": memory.data,
        "busy": 0,
        "busy-rate": 0,
        "compressed-size": size,
        "compression-rate": memory.data * PAGE / size if size else 0,
    }


def of_incoming(incoming: Incoming, side: Side) -> dict[str, Any]:
    """Of a machine that comes, or is waited for."""
    told: dict[str, Any] = {}
    state = incoming.state
    if state is not _S.NONE:
        told["status"] = str(state)
        if incoming.error is not None and state is _S.FAILED and side.course.reason_kept:
            told["error-desc"] = incoming.error
    if state in (_S.COMPLETED, _S.FAILED):
        if state is _S.COMPLETED and side.has("postcopy-blocktime"):
            told |= {"postcopy-blocktime": 0, "postcopy-vcpu-blocktime": [0] * side.cpus}
            if side.course.postcopy_device:
                told |= {
                    "postcopy-latency": 0,
                    "postcopy-latency-dist": [0] * _LATENCIES,
                    "postcopy-vcpu-latency": [0] * side.cpus,
                    "postcopy-non-vcpu-latency": 0,
                }
        return told
    if incoming.addresses:
        told["socket-address"] = incoming.addresses
    return told
