"""How long memory takes, as figures alone."""

from __future__ import annotations

import pytest

from qmpd.migration.memory import SECOND, Memory, Size


@pytest.mark.parametrize(
    ("size", "at_once", "least"),
    [
        # 64 MiB of a guest that its firmware has started, at 64 KiB a second: real QEMU 10.0 took this long.
        (Size(16514, 113), 131072, 616),
        # Data alone, 32 pages in each tenth of a second.
        (Size(320, 320), 131072, 900),
        # Zeros alone, 3640 pages in each.
        (Size(36400, 0), 131072, 900),
    ],
)
def test_what_goes_out_at_once_decides_where_the_limit_is_low(size: Size, at_once: int, least: int) -> None:
    memory = Memory(size, 0, 0, at_once)
    memory.set_limit(65536, 0)
    assert least <= memory.time_left(0) / SECOND * 1000 <= least * 1.35
