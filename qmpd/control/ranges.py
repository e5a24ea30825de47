"""Ranges of counts as people write them."""

from __future__ import annotations

import re

Range = int | str
"""A count, or a text with one or two: `2`, `2-3`."""

_SPELLING = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?\Z", re.ASCII)


def bounds(name: str, given: Range, limit: int) -> tuple[int, int]:
    """The least and the greatest of a range; `name` is what it is called on the wire.

    :raise ValueError: it is none, or is not within 0 and `limit`.
    """
    spelled = _SPELLING.match(str(given))
    if spelled is not None:
        least = int(spelled[1])
        greatest = int(spelled[2] or least)
        if least <= greatest <= limit:
            return least, greatest
    raise ValueError(f"'{name}' is a number from 0 to {limit}, or two of them like 2-3")


def spell(least: int, greatest: int) -> Range:
    """The range as it is written."""
    return least if least == greatest else f"{least}-{greatest}"
