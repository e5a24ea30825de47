"""How often QEMU drains all disks as a job comes and goes, and so has other jobs pause for a moment.

It does wherever it changes the block graph, which differs from release to release (`JobBehaviour.job_drains`).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

LEAVING = 2
"""How often a node is drained as somebody leaves it."""


class Drains(NamedTuple):
    """Counts: before the job is created, after that, at its end, and after it is gone."""

    before: int = 0
    created: int = 0
    ended: int = 0
    gone: int = 0


@functools.cache
def drains_of(table: str, kind: str) -> Drains:
    """The counts of one kind of job; `table` is `KIND BEFORE CREATED ENDED GONE`, with commas between the kinds."""
    for line in table.split(","):
        name, *counts = line.split() or ("",)
        if name == kind:
            return Drains(*map(int, counts))
    return Drains()
