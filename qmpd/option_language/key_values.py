"""The two grammars of `key=value,...` on QEMU's command line, and the types of their values.

Most options are flat lists (docs: "QemuOpts"): `,,` stands for a comma inside a value, a flag without a
value means on (off behind `no`), which recent releases warn about.  `-machine` and `-smp` are trees since
release 6 (docs: "keyval"): every key has a value, and dots make members of members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from qmpd.common.integers import from_digits
from qmpd.option_language.errors import OptionError

# A value that is kept as it is, or one of QEMU's three other types.
STRING, BOOL, NUMBER, SIZE = "string", "bool", "number", "size"

_U64 = 1 << 64
_SUFFIXES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50, "e": 1 << 60}
_SIZE_HINT = (
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-",
    "and exabytes, respectively.",
)
_SPACE = " \t\n\v\f\r"


def _until_comma(text: str, start: int) -> tuple[str, int]:
    """The value that starts at `start`, with `,,` as a comma, and where it ends."""
    parts = []
    while True:
        end = text.find(",", start)
        if end < 0:
            parts.append(text[start:])
            return "".join(parts), len(text)
        parts.append(text[start:end])
        if text[end + 1 : end + 2] != ",":
            return "".join(parts), end
        parts.append(",")
        start = end + 2


def split_flat_list(text: str, implied: str | None = None) -> Iterator[str]:
    """The pieces of a flat list, a pair each, still as they were typed."""
    position = 0
    while position < len(text):
        comma, equals = text.find(",", position), text.find("=", position)
        end = min(mark for mark in (comma, equals, len(text)) if mark >= 0)
        if end == equals or (implied is not None and position == 0):
            _, end = _until_comma(text, end + 1 if end == equals else position)
        yield text[position:end]
        position = end + 1


def flat_list(
    text: str, implied: str | None = None, warn: Callable[[str, str], None] | None = None
) -> list[tuple[str, str]]:
    """The pairs of a flat list in their order; a first value without a key belongs to `implied`.

    `warn` is called with the flag and its spelled-out form for each flag that has no value.
    """
    pairs: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        comma, equals = text.find(",", position), text.find("=", position)
        end = min(mark for mark in (comma, equals, len(text)) if mark >= 0)
        if end == equals:
            key = text[position:end]
            value, position = _until_comma(text, end + 1)
        elif implied is not None and not pairs:
            key = implied
            value, position = _until_comma(text, position)
        else:
            flag = key = text[position:end]
            value = "on"
            if key.startswith("no"):
                key, value = key[2:], "off"
            if warn is not None:
                warn(flag, f"{key}={value}")
            position = end
        pairs.append((key, value))
        position += 1
    return pairs


def check_flat_list(pairs: list[tuple[str, str]], types: Mapping[str, str]) -> dict[str, str | int]:
    """The values by key, the last of each; `types` says which keys there are and of which type.

    Booleans come out as 0 and 1.

    :raise OptionError: a key is unknown or a value not of its type.
    """
    values: dict[str, str | int] = {}
    for key, value in pairs:
        kind = types.get(key)
        if kind is None:
            raise OptionError(f"Invalid parameter '{key}'")
        if kind == STRING:
            values[key] = value
        elif kind == BOOL:
            values[key] = boolean(key, value)
        elif kind == NUMBER:
            values[key] = number(key, value)
        else:
            values[key] = size(key, value)
    return values


def boolean(key: str, value: str) -> bool:
    """A boolean value (QEMU's words for one: on, yes, true, y, and their opposites).

    :raise OptionError: it is none of them.
    """
    if value in ("on", "yes", "true", "y"):
        return True
    if value in ("off", "no", "false", "n"):
        return False
    raise OptionError(f"Parameter '{key}' expects 'on' or 'off'")


def _integer(text: str) -> int | None:
    """C's strtoull in base 0 over the whole text: an unlimited integer, or None where there is none."""
    text = text.lstrip(_SPACE)
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isalnum():
        return None
    try:
        if digits[0] == "0" and digits.isdigit():
            value = from_digits(digits, 8)
        elif digits[:2] in ("0x", "0X"):
            value = from_digits(digits[2:], 16)
        else:
            value = from_digits(digits)
    except ValueError:
        return None
    return -value if text[0] == "-" else value


def number(key: str, value: str) -> int:
    """A number of a flat list: 64 bits without sign, into which a negative one wraps.

    :raise OptionError: it is none, or too large.
    """
    integer = _integer(value)
    if integer is None:
        raise OptionError(f"Parameter '{key}' expects a number")
    if abs(integer) >= _U64:
        raise OptionError(f"Value '{value}' is too large for parameter '{key}'")
    return integer % _U64


def signed_integer(key: str, value: str) -> int:
    """An integer of a tree: 64 bits with a sign.

    :raise OptionError: it is none.
    """
    integer = _integer(value)
    if integer is None or not -_U64 // 2 <= integer < _U64 // 2:
        raise OptionError(f"Parameter '{key}' expects integer")
    return integer


def size(key: str, value: str) -> int:
    """A size in bytes: a number, decimal with an optional fraction or hexadecimal, and a suffix.

    :raise OptionError: it is none, or too large.
    """
    wrong = OptionError(f"Parameter '{key}' expects a non-negative number below 2^64", hint=_SIZE_HINT)
    text = value.lstrip(_SPACE).removeprefix("+")
    if text[:2] in ("0x", "0X"):
        # `e` and `b` are digits here, so only the other suffixes can follow one.
        unit = _SUFFIXES.get(text[-1].lower(), 1) if text[-1] not in "bBeE" else 1
        digits = text[:-1] if unit > 1 else text
        integer = _integer(digits)
        if integer is None:
            raise wrong
        bytes_ = integer * unit
    else:
        suffix = text[-1:] if not text[-1:].isdigit() and text[-1:] != "." else ""
        whole, point, fraction = text.removesuffix(suffix).partition(".") if suffix else text.partition(".")
        unit = _SUFFIXES.get(suffix.lower(), 0)
        if not unit or not whole.isascii() or not whole.isdigit():
            raise wrong
        if fraction and not (fraction.isascii() and fraction.isdigit()):
            raise wrong
        bytes_ = from_digits(whole) * unit
        if point and fraction:
            if unit == 1 and fraction.strip("0"):
                raise wrong
            bytes_ += int(float(f"0.{fraction}") * unit)
    if bytes_ >= _U64:
        raise OptionError(f"Value '{value}' is out of range for parameter '{key}'")
    return bytes_


def _is_name(fragment: str) -> bool:
    """Whether QAPI allows this as a name: a letter, then letters, digits, `-` and `_`."""
    return (
        fragment[:1].isalpha()
        and fragment.isascii()
        and all(character.isalnum() or character in "-_" for character in fragment)
    )


# A tree's leaves are strings.
Tree = dict[str, "str | Tree"]


def tree(text: str, implied: str = "") -> Tree:
    """The tree of a list with dotted keys; a first value without a key belongs to `implied`, if any.

    :raise OptionError: a key is not one, lacks its value, or is used both as a leaf and as a branch.
    """
    root: Tree = {}
    position = 0
    while position < len(text):
        comma, equals = text.find(",", position), text.find("=", position)
        end = min(mark for mark in (comma, equals, len(text)) if mark >= 0)
        key = text[position:end]
        if end == equals:
            value, following = _until_comma(text, end + 1)
        elif key in ("help", "?"):
            raise OptionError("Help is not available for this option")
        elif position == 0 and key and implied:
            # A value without its key cannot hold a comma: `,,` ends it like `,`.
            key, value, following = implied, key, end
        else:
            value, following = None, end
        plant(root, key, value)
        position = following + 1
    return root


def plant(root: Tree, key: str, value: str | None) -> None:
    """Put a value into a tree.

    :raise OptionError: the key is none, has no value, or is used both as a leaf and as a branch.
    """
    *branches, leaf = key.split(".")
    place, path = root, ""
    for fragment in branches:
        if not _is_name(fragment):
            raise OptionError(f"Invalid parameter '{key}'")
        path += fragment + "."
        below = place.setdefault(fragment, {})
        if isinstance(below, str):
            raise OptionError(f"Parameters '{path}*' used inconsistently")
        place = below
    if not _is_name(leaf):
        raise OptionError(f"Invalid parameter '{key}'")
    if value is None:
        raise OptionError(f"Expected '=' after parameter '{key}'")
    if isinstance(place.get(leaf), dict):
        raise OptionError(f"Parameters '{path}{leaf}.*' used inconsistently")
    place[leaf] = value
