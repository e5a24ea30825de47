"""The integers that QEMU's visitors take."""

from __future__ import annotations

# Unsigned 64-bit ones take negative numbers too; the narrower ones don't.
INTEGER_RANGES: dict[str, tuple[int, int]] = {
    "int8": (-(1 << 7), (1 << 7) - 1),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint8": (0, (1 << 8) - 1),
    "uint16": (0, (1 << 16) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (-(1 << 63), (1 << 64) - 1),
}
"""The least and the largest of each type."""

_DIGITS = "0123456789abcdef"
# A number of more digits than this is beyond 64 bits in every base.
_MOST_DIGITS = 64


def is_digits(text: str) -> bool:
    """Whether these are decimal digits and nothing else, and at least one: those of ASCII, as C takes them."""
    return text.isascii() and text.isdigit()


def from_digits(digits: str, base: int = 10) -> int:
    """The number that these digits spell; a number beyond 64 bits may come out as another one beyond them.

    Python itself refuses thousands of digits.

    :raise ValueError: one of them is no digit of this base, or there is none.
    """
    if not digits or not set(digits.lower()) <= set(_DIGITS[:base]):
        raise ValueError(f"'{digits}' is no number in base {base}")
    return int(digits.lstrip("0")[:_MOST_DIGITS] or "0", base)
