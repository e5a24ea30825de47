"""Addresses as people write them."""

from __future__ import annotations

import re
from typing import Annotated

Address = Annotated[int | str, "address"]
"""An address of a CPU's: a number, or a text with one, hexadecimal behind `0x`."""

_SPELLING = re.compile(r"(?:0[xX]([0-9a-fA-F]{1,16})|([0-9]{1,20}))\Z", re.ASCII)
_LIMIT = 1 << 64


def number(address: Address) -> int:
    """The address as a number.

    :raise ValueError: it is none that 64 bits can hold.
    """
    if isinstance(address, str):
        spelled = _SPELLING.match(address)
        if spelled is None:
            raise ValueError(f"'{address}' is not an address: a number, or 0x and hexadecimal digits, is")
        address = int(spelled[1], 16) if spelled[1] else int(spelled[2])
    if not 0 <= address < _LIMIT:
        raise ValueError(f"{address} is not an address of 64 bits")
    return address
