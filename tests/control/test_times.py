"""Times as people write them."""

from __future__ import annotations

import pytest

from qmpd.control.times import Time, nanoseconds


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("7ns", 7),
        ("2us", 2_000),
        ("35ms", 35_000_000),
        ("1.5s", 1_500_000_000),
        ("90", 90_000_000_000),
        ("10m", 600_000_000_000),
        ("24h", 86_400_000_000_000),
        ("0.000000001", 1),
        ("0", 0),
        (90, 90_000_000_000),
        (0.25, 250_000_000),
    ],
)
def test_written_times(written: Time, meant: int) -> None:
    assert nanoseconds(written) == meant


@pytest.mark.parametrize(
    "written", ["", "s", "-1s", "1 s", "1d", "1.s", "1e3", "٣s", "99999999999999h", -1, 1e300, float("nan"), 1 << 70]
)
def test_what_is_no_time(written: Time) -> None:
    with pytest.raises(ValueError, match=r"time"):
        nanoseconds(written)
