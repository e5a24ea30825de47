"""Values of the properties of users' objects where they are given as text (QEMU's qapi/opts-visitor.c).

Releases whose `-object` is a plain list of options read it so; 5.2 is one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qmpd.common.integers import INTEGER_RANGES, from_digits
from qmpd.common.refusals import Refusal
from qmpd.common.scalars import FLOATING, boolean_of, integer_of, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIZES = frozenset(("size", "align", "hugetlbsize"))
LISTS = frozenset(("host-nodes",))
"""The properties that are lists of numbers, whatever their types are called."""

COUNTS = frozenset(("prealloc-threads",))
"""Those that are numbers of 32 bits without sign."""

_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_MOST_NODES = (1 << 16) - 1
_SIGNED = range(-1 << 63, 1 << 63)
_UNSIGNED = range(1 << 64)


def read(name: str, kind: str, text: str) -> object:
    """What a text stands for, as the value of a property of this name and type.

    :raise Refusal: it is none of its type.
    """
    if name in LISTS:
        return _numbers(name, text)
    if kind == "bool":
        try:
            return boolean_of(text)
        except ValueError:
            raise Refusal("boolean-value", name=name) from None
    if name in _SIZES or kind == "size":
        try:
            return size_of(text, FLOATING)
        except (ValueError, OverflowError):
            raise Refusal("option-size", name=name) from None
    if kind not in INTEGER_RANGES and kind != "int":
        return text
    unsigned = kind.startswith("u")
    try:
        number = integer_of(text)
    except ValueError:
        number = None
    if number is None or number not in (_UNSIGNED if unsigned else _SIGNED):
        raise Refusal("option-number", name=name, kind="a uint64" if unsigned else "an int64")
    return number


def likely(text: str) -> object:
    """What a text stands for where the type is not known."""
    if re.fullmatch("-?[0-9]+", text) is None:
        return text
    return -from_digits(text[1:]) if text[0] == "-" else from_digits(text)


def _numbers(name: str, text: str) -> list[int]:
    """Numbers, each alone or from one to another."""
    match = _RANGE.fullmatch(text)
    first, last = (0, -1) if match is None else (from_digits(match[1]), from_digits(match[2] or match[1]))
    if first > last:
        raise Refusal("option-range", name=name)
    _check_numbers((first, last))
    return list(range(first, last + 1))


def check_list(name: str, value: object) -> None:
    """See whether a value, which is no text, is a list of numbers.

    :raise Refusal: it is none.
    """
    if not isinstance(value, list):
        raise Refusal("array-expected", name=name)
    _check_numbers(value)


def _check_numbers(numbers: Iterable[int]) -> None:
    if any(not 0 <= number <= _MOST_NODES for number in numbers):
        # The visitor does not know what the members of a list are called.
        raise Refusal("number-type", name="null", kind="uint16")
