"""Values of QOM properties as text: how QEMU's visitors refuse what is none of a type's.

A value comes from a tree of keys (`-machine`) or stands alone (`-global`, `-accel`, `-cpu`); the words differ.
"""

from __future__ import annotations

from qmpd.common.enumerations import ENUMERATIONS
from qmpd.common.integers import INTEGER_RANGES
from qmpd.common.refusals import Refusal
from qmpd.common.scalars import size_of
from qmpd.option_language import key_values

_UNSIGNED = ("uint8", "uint16", "uint32", "uint64")


def check_text(kind: str, name: str, value: str, language: str) -> None:
    """See whether a text alone is a value of a type (QEMU's string-input-visitor); `language` is that of sizes.

    :raise Refusal: it is none.
    """
    kind = kind.removesuffix("_t")
    if kind == "bool":
        key_values.boolean(name, value)
    elif kind in INTEGER_RANGES or kind == "int":
        unsigned = kind in _UNSIGNED or kind == "int"
        try:
            number = key_values.number(name, value)
        except Refusal:
            raise Refusal("parameter-uint64" if unsigned else "parameter-int64", name=name) from None
        if kind in INTEGER_RANGES and kind != "uint64":
            if number >= 1 << 63:
                number -= 1 << 64
            low, high = INTEGER_RANGES[kind]
            if not low <= number <= high:
                raise Refusal("integer-narrow", name=name, kind=kind)
    elif kind == "size":
        key_values.size(name, value, language)
    elif kind in ENUMERATIONS and value not in ENUMERATIONS[kind]:
        raise Refusal("enum-refusal", name=name, value=value)


def check_member(kind: str, name: str, value: str, language: str) -> None:
    """See whether a value of a tree is one of a type (QEMU's qobject-input-visitor for keyval).

    `language` is that of sizes.

    :raise Refusal: it is none.
    """
    plain = kind.removesuffix("_t")
    if plain == "bool":
        key_values.boolean(name, value)
    elif plain == "size":
        try:
            size_of(value, language)
        except (ValueError, OverflowError):
            raise Refusal("size-expected", name=name) from None
    elif plain in INTEGER_RANGES or plain == "int":
        number = key_values.signed_integer(name, value)
        low, high = INTEGER_RANGES.get(plain, INTEGER_RANGES["int64"])
        if not low <= number <= high:
            raise Refusal("integer-narrow", name=name, kind=plain)
    elif kind in ENUMERATIONS and value not in ENUMERATIONS[kind]:
        raise Refusal("enum-refusal", name=name, value=value)
