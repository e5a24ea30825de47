"""Sizes and offsets as people write them."""

from __future__ import annotations

import re
from typing import Annotated

Size = Annotated[int | str, "size"]
"""Bytes: a number, or a text with one, hexadecimal behind `0x`, or with a unit (`64k`, `1M`, `2G`, `1T`)."""

_SPELLING = re.compile(r"(?:0[xX]([0-9a-fA-F]{1,16})|([0-9]{1,20})([kKmMgGtT]?))\Z", re.ASCII)
_LIMIT = 1 << 63


def size(value: Size) -> int:
    """The size in bytes.

    :raise ValueError: it is none.
    """
    if isinstance(value, str):
        spelled = _SPELLING.match(value)
        if spelled is None:
            raise ValueError(f"'{value}' is not a size: a number is, 64k, 1M, 2G or 0x200")
        value = int(spelled[1], 16) if spelled[1] else int(spelled[2]) << 10 * " kmgt".index(spelled[3].lower() or " ")
    if not 0 <= value < _LIMIT:
        raise ValueError(f"{value} is not a size")
    return value
