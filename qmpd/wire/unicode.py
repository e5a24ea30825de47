"""Modified UTF-8, the encoding of QMP's strings: UTF-8 with U+0000 written as C0 80.

QEMU takes as a character only what Unicode assigns to text: surrogates, the 66 noncharacters, overlong forms and
anything above U+10FFFF are invalid (measured with ids in all four releases). A decoded string therefore is a clean
`str`, and the only text with holes is the excerpt of bad input in a parse error, where each invalid sequence becomes
one U+FFFD.
"""

from __future__ import annotations

import functools
import re

REPLACEMENT = "\ufffd"


@functools.cache
def invalid_characters() -> re.Pattern[str]:
    """The pattern of what a `str` can hold and QEMU takes for no character (made when first needed: it takes 1 ms)."""
    last_two_of_planes = "".join(chr((plane << 16) | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    return re.compile(f"[\ud800-\udfff\ufdd0-\ufdef{last_two_of_planes}]")


def holds_noncharacter(text: str) -> bool:
    """Whether there is something in `text` that QEMU takes for no character."""
    if text.isascii():
        return False
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return True
    return _may_hold_noncharacter(data) and invalid_characters().search(text) is not None


def _may_hold_noncharacter(data: bytes) -> bool:
    # All noncharacters begin or end with these bytes in UTF-8; the pattern is a hundred times slower than this.
    return b"\xbf\xbe" in data or b"\xbf\xbf" in data or b"\xef\xb7" in data


def is_character(code_point: int) -> bool:
    """Whether QEMU takes the code point as a character."""
    if not 0 <= code_point <= 0x10FFFF or 0xD800 <= code_point <= 0xDFFF:
        return False
    return not (0xFDD0 <= code_point <= 0xFDEF or code_point & 0xFFFE == 0xFFFE)


# The smallest code point that needs a sequence of the given length; a shorter spelling existed for anything below.
_SMALLEST = {2: 0x80, 3: 0x800, 4: 0x10000, 5: 0x200000, 6: 0x4000000}


def _sequence(data: bytes, start: int) -> tuple[int, int]:
    """The code point of the sequence at `start` (-1 where it is invalid) and the offset after it."""
    lead = data[start]
    position = start + 1
    if lead < 0x80:
        return lead, position
    if lead < 0xC0 or lead >= 0xFE:
        return -1, position
    length = 8 - (lead ^ 0xFF).bit_length()
    code_point = lead & (0x7F >> length)
    for _ in range(length - 1):
        if position >= len(data) or data[position] & 0xC0 != 0x80:
            # Only the bytes that were part of the sequence are skipped.
            return -1, position
        code_point = code_point << 6 | data[position] & 0x3F
        position += 1
    if not is_character(code_point):
        return -1, position
    if code_point < _SMALLEST[length] and not (code_point == 0 and length == 2):
        return -1, position
    return code_point, position


def decode_strictly(data: bytes) -> str | None:
    """The text of `data`, which must not hold NUL bytes, or None where a sequence is invalid."""
    if data.isascii():
        return data.decode("ascii")
    # C0 is valid nowhere but in the spelling of U+0000, so what is left of it makes the decoder fail.
    if b"\xc0\x80" in data:
        data = data.replace(b"\xc0\x80", b"\x00")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if _may_hold_noncharacter(data) and invalid_characters().search(text) else text


def decode_leniently(data: bytes) -> str:
    """The text of `data` up to a NUL with each invalid sequence replaced, as QEMU prints bytes that a client sent."""
    data = data.partition(b"\x00")[0]
    text = decode_strictly(data)
    if text is not None:
        return text
    characters: list[str] = []
    position = 0
    while position < len(data):
        code_point, position = _sequence(data, position)
        characters.append(REPLACEMENT if code_point < 0 else chr(code_point))
    return "".join(characters)
