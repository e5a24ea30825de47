"""What QEMU means by a boolean, an integer and a size where they are written as text.

These only read: what is said to a text that is none differs with the place that it was written in.  (QEMU's
qapi/qapi-util.c, util/cutils.c.)
"""

from __future__ import annotations

import re

from qmpd.common.integers import from_digits, is_digits

SPACE = " \t\n\v\f\r"
"""What C takes for blanks."""

FLOATING, STRICT, EXACT = "floating", "strict", "exact"
"""How sizes are read: as floating numbers, hexadecimal ones too; as whole numbers with a fraction; or so that no digit
is lost, where a fraction may stand alone, a hexadecimal number has no suffix, and what is below nothing is out of range
instead of no number."""

_TRUE = frozenset({"on", "yes", "true", "y"})
_FALSE = frozenset({"off", "no", "false", "n"})
_FLOATING = re.compile(
    rf"[{SPACE}]*([+-]?(?:0[xX](?:[0-9a-fA-F]+(?:\.[0-9a-fA-F]*)?|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?"
    r"|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))([bBkKmMgGtTpPeE]?)"
)
_LIMIT = 1 << 64
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50, "e": 1 << 60}


def boolean_of(text: str) -> bool:
    """The boolean: on, yes, true and y, or off, no, false and n.

    :raise ValueError: it is none of them.
    """
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(text)


def integer_of(text: str) -> int:
    """The integer of any size: decimal, octal behind a 0 or hexadecimal behind 0x, a sign and blanks before it.

    :raise ValueError: it is none.
    """
    text = text.lstrip(SPACE)
    digits = text[1:] if text[:1] in ("+", "-") else text
    if digits[:2] in ("0x", "0X"):
        value = from_digits(digits[2:], 16)
    elif digits[:1] == "0":
        value = from_digits(digits, 8)
    else:
        value = from_digits(digits)
    return -value if text[:1] == "-" else value


def size_of(text: str, language: str = EXACT) -> int:
    """The size in bytes: a number, perhaps with a fraction or hexadecimal, and perhaps a suffix.

    :raise ValueError: it is none in this language.
    :raise OverflowError: it is 2^64 or more, or less than nothing.
    """
    found = _floating_size(text) if language == FLOATING else _whole_size(text.lstrip(SPACE), language)
    if found >= _LIMIT:
        raise OverflowError(text)
    return found


def has_doubtful_suffix(text: str, language: str) -> bool:
    """Whether a size is one that the language takes with a warning: hexadecimal with a suffix."""
    number = text.lstrip(SPACE).removeprefix("+")
    return language == STRICT and number[:2] in ("0x", "0X") and _hexadecimal_unit(number) > 1


def _floating_size(text: str) -> int:
    match = _FLOATING.fullmatch(text)
    if match is None:
        raise ValueError(text)
    unit = _UNITS[match[2].lower()]
    number = float.fromhex(match[1]) if "x" in match[1].lower() else float(match[1])
    if unit == 1 and not number.is_integer():
        raise ValueError(text)
    if number < 0 or number * unit >= _LIMIT:
        raise OverflowError(text)
    return int(number * unit)


def _whole_size(text: str, language: str) -> int:
    number = text.removeprefix("+")
    if number[:1] == "-":
        digits = number[1:]
        if is_digits(digits) and (language == EXACT or from_digits(digits) >= _LIMIT):
            raise OverflowError(text)
        raise ValueError(text)
    if number[:2] not in ("0x", "0X"):
        return _decimal_size(number, language)
    unit = _hexadecimal_unit(number)
    if unit > 1 and language == EXACT:
        raise ValueError(text)
    return integer_of(number[:-1] if unit > 1 else number) * unit


def _hexadecimal_unit(number: str) -> int:
    # `e` and `b` are digits here, so only the other suffixes can follow one.
    return 1 if number[-1] in "bBeE" else _UNITS.get(number[-1].lower(), 1)


def _decimal_size(number: str, language: str) -> int:
    suffix = number[-1:] if not is_digits(number[-1:]) and number[-1:] != "." else ""
    whole, point, fraction = (number.removesuffix(suffix) if suffix else number).partition(".")
    unit = _UNITS.get(suffix.lower(), 0)
    if not whole and fraction and language == EXACT:
        whole = "0"
    if not unit or not is_digits(whole):
        raise ValueError(number)
    if not point or not fraction:
        return from_digits(whole) * unit
    if not is_digits(fraction) or (unit == 1 and fraction.strip("0")):
        raise ValueError(number)
    return from_digits(whole) * unit + int(float(f"0.{fraction}") * unit)
