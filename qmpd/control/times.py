"""Times as people write them."""

from __future__ import annotations

import re

from qmpd.common.integers import from_digits

Time = int | float | str
"""A length of time: a number of seconds, or a text with its unit (`35ms`; units are ns, us, ms, s, m and h)."""

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3600_000_000_000,
}
_SPELLING = re.compile(r"(\d+)(?:\.(\d+))?(ns|us|ms|s|m|h|)\Z", re.ASCII)
# Digits of a fraction that matter: an hour has 3.6e12 nanoseconds.
_FINEST = 20
_LIMIT = 1 << 62


def nanoseconds(time: Time) -> int:
    """`time` in nanoseconds, exactly where it is written with few enough digits.

    :raise ValueError: it is no time, negative, or beyond a century.
    """
    if isinstance(time, str):
        spelled = _SPELLING.match(time)
        if spelled is None:
            raise ValueError(f"'{time}' is not a time: a number with one of the units ns, us, ms, s, m, h is")
        whole, fraction, unit = spelled.groups()
        factor = _UNITS[unit]
        result = from_digits(whole) * factor
        if fraction:
            fraction = fraction[:_FINEST]
            result += int(fraction) * factor // 10 ** len(fraction)
    elif time >= 0 and time * 1_000_000_000 < _LIMIT:
        result = round(time * 1_000_000_000)
    else:
        raise ValueError(f"{time} is not a time in seconds")
    if result >= _LIMIT:
        raise ValueError(f"'{time}' is too long a time")
    return result


def seconds(nanoseconds: int) -> float:
    """The same in seconds."""
    return nanoseconds / 1_000_000_000
