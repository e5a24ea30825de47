"""Base64 as the agent reads it: four characters at a time, what is left over is dropped.

(Measured on the program: "Q===" is one byte, "QQ" none, "QQ==QQ==" two.)
"""

from __future__ import annotations

import base64
from string import ascii_lowercase, ascii_uppercase, digits

from qmpd.common.refusals import Refusal

_VALUES = {each: number for number, each in enumerate(f"{ascii_uppercase}{ascii_lowercase}{digits}+/")}
_IGNORED = "\n"
_PADDING = "="


def decode(text: str) -> bytes:
    """The bytes that a text stands for.

    :raise Refusal: there is another character in it.
    """
    characters = [each for each in text if each not in _IGNORED]
    if any(each not in _VALUES and each != _PADDING for each in characters):
        raise Refusal("agent-base64")
    result = bytearray()
    for start in range(0, len(characters) - 3, 4):
        group = characters[start : start + 4]
        number = 0
        for each in group:
            number = number << 6 | _VALUES.get(each, 0)
        padded = (group[3] == _PADDING) + (group[3] == _PADDING and group[2] == _PADDING)
        result += number.to_bytes(3, "big")[: 3 - padded]
    return bytes(result)


def encode(data: bytes) -> str:
    """The text that stands for bytes."""
    return base64.b64encode(data).decode()
