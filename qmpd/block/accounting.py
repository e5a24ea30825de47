"""The account of what a drive's users have done: QAPI's BlockDeviceStats.  (QEMU's block/accounting.c.)"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from qmpd.block.values import is_on
from qmpd.common.integers import from_digits, is_digits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KINDS = {"read": "rd", "write": "wr", "zero": "wr", "flush": "flush", "discard": "unmap"}
_TIMED = ("rd", "wr", "flush")
_QUEUES = ("rd", "wr")
_SECOND = 1_000_000_000
_INTERVALS = "stats-intervals."
_LONGEST = 0xFFFF_FFFF


@dataclass(slots=True)
class Accounting:
    """How a drive's account is kept, as `-drive stats-account-...` says it.

    `invalid` and `failed`: whether such requests count as use, and failed ones' time is added.  `intervals` are the
    seconds over which averages are told, `recent` what has ended within the longest of them: kind, when, and
    nanoseconds.
    """

    invalid: bool = True
    failed: bool = True
    intervals: list[int] = field(default_factory=list)
    recent: list[tuple[str, int, int]] = field(default_factory=list)

    def note(self, kind: str, now: int, latency: int) -> None:
        """A request has ended."""
        if self.intervals and kind in _TIMED:
            self.recent.append((kind, now, latency))
            oldest = now - max(self.intervals) * _SECOND
            while self.recent[0][1] < oldest:
                del self.recent[0]

    def snapshot(self) -> list[Any]:
        """It as plain data."""
        return [self.invalid, self.failed, self.intervals, [list(each) for each in self.recent]]

    @classmethod
    def restore(cls, plain: list[Any]) -> Accounting:
        """What `snapshot` made this of."""
        invalid, failed, intervals, recent = plain
        return cls(invalid, failed, intervals, [(kind, when, latency) for kind, when, latency in recent])

    def described(self, now: int) -> dict[str, Any]:
        """What queries tell of it."""
        timed = [self._averages(interval, now) for interval in self.intervals]
        return {"account_invalid": self.invalid, "account_failed": self.failed, "timed_stats": timed}

    def _averages(self, interval: int, now: int) -> dict[str, Any]:
        found: dict[str, Any] = {"interval_length": interval}
        for kind in _TIMED:
            begin = now - interval * _SECOND
            times = [latency for each, when, latency in self.recent if each == kind and when >= begin]
            found[f"min_{kind}_latency_ns"] = min(times, default=0)
            found[f"max_{kind}_latency_ns"] = max(times, default=0)
            found[f"avg_{kind}_latency_ns"] = sum(times) // len(times) if times else 0
            if kind in _QUEUES:
                depth = sum(times) / (interval * _SECOND)
                found[f"avg_{kind}_queue_depth"] = depth or 0
        return found


def intervals(given: Mapping[str, str]) -> list[str]:
    """The values of `stats-intervals.0`, `.1` and so on."""
    return [given[f"{_INTERVALS}{number}"] for number in range(len(given)) if f"{_INTERVALS}{number}" in given]


def is_length(text: str) -> bool:
    """Whether it is a length of an interval, in seconds."""
    return is_digits(text) and 0 < from_digits(text) <= _LONGEST


def interval_names(given: Mapping[str, str]) -> Iterator[str]:
    """What follows on `stats-intervals.` in the options that begin so."""
    return (name.removeprefix(_INTERVALS) for name in given if name.startswith(_INTERVALS))


def from_options(given: Mapping[str, str]) -> Accounting:
    """What the options of a drive say of its account."""
    return Accounting(
        is_on(given.get("stats-account-invalid", "on")), is_on(given.get("stats-account-failed", "on")),
        [from_digits(text) for text in intervals(given)],
    )  # fmt: skip


def note_latency(histograms: dict[str, list[list[int]]], request: str, latency: int) -> None:
    """Count a request that has ended, however, in its kind's histogram where there is one."""
    found = histograms.get(_KINDS[request])
    if found is not None:
        boundaries, bins = found
        bins[bisect_right(boundaries, latency)] += 1


def is_histogram(boundaries: list[int]) -> bool:
    """Whether these can be the boundaries of a histogram: they rise, from above 0."""
    return all(before < after for before, after in pairwise([0, *boundaries]))


def enter(
    found: dict[str, int], rules: Accounting, request: str, length: int, now: int, latency: int, *, failed: bool
) -> bool:
    """Enter a request that has ended into an account; whether that counts as use of the drive."""
    kind = _KINDS[request]

    def add(name: str, value: int) -> None:
        found[name] = found.get(name, 0) + value

    if failed:
        add(f"failed_{kind}_operations", 1)
        if not rules.failed:
            return False
    else:
        if kind != "flush":
            add(f"{kind}_bytes", length)
        add(f"{kind}_operations", 1)
    add(f"{kind}_total_time_ns", latency)
    rules.note(kind, now, latency)
    return True
