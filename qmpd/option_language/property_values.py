"""Values of QOM properties as text: how QEMU's visitors refuse what is none of a type's.

A value comes from a tree of keys (`-machine`) or stands alone (`-global`, `-accel`, `-cpu`); the words differ.
"""

from __future__ import annotations

from qmpd.common.integers import INTEGER_RANGES
from qmpd.option_language import key_values
from qmpd.option_language.errors import OptionError
from qmpd.qom.setting import ENUMERATIONS

_UNSIGNED = ("uint8", "uint16", "uint32", "uint64")


def check_text(kind: str, name: str, value: str) -> None:
    """See whether a text alone is a value of a type (QEMU's string-input-visitor).

    :raise OptionError: it is none.
    """
    kind = kind.removesuffix("_t")
    if kind == "bool":
        key_values.boolean(name, value)
    elif kind in INTEGER_RANGES or kind == "int":
        wanted = "uint64" if kind in _UNSIGNED or kind == "int" else "int64"
        try:
            number = key_values.number(name, value)
        except OptionError:
            raise OptionError(f"Parameter '{name}' expects {wanted}") from None
        if kind in INTEGER_RANGES and kind != "uint64":
            if number >= 1 << 63:
                number -= 1 << 64
            low, high = INTEGER_RANGES[kind]
            if not low <= number <= high:
                raise OptionError(f"Parameter '{name}' expects {kind}_t")
    elif kind == "size":
        key_values.size(name, value)
    elif kind in ENUMERATIONS and value not in ENUMERATIONS[kind]:
        raise OptionError(f"Parameter '{name}' does not accept value '{value}'")


def check_member(kind: str, name: str, value: str, enum_refusal: str) -> None:
    """See whether a value of a tree is one of a type (QEMU's qobject-input-visitor for keyval).

    :raise OptionError: it is none.
    """
    plain = kind.removesuffix("_t")
    if plain == "bool":
        key_values.boolean(name, value)
    elif plain == "size":
        try:
            key_values.size(name, value)
        except OptionError:
            raise OptionError(f"Parameter '{name}' expects size") from None
    elif plain in INTEGER_RANGES or plain == "int":
        number = key_values.signed_integer(name, value)
        low, high = INTEGER_RANGES.get(plain, INTEGER_RANGES["int64"])
        if not low <= number <= high:
            raise OptionError(f"Parameter '{name}' expects {plain}_t")
    elif kind in ENUMERATIONS and value not in ENUMERATIONS[kind]:
        raise OptionError(enum_refusal.format(name=name, value=value))
