"""The two grammars of `key=value,...` on QEMU's command line, and the types of their values.

Most options are flat lists (docs: "QemuOpts"): `,,` stands for a comma inside a value, a flag without a
value means on (off behind `no`), which recent releases warn about.  `-machine` and `-smp` are trees since
release 6 (docs: "keyval"): every key has a value, and dots make members of members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from qmpd.common.integers import is_digits
from qmpd.common.refusals import Refusal
from qmpd.common.scalars import EXACT, boolean_of, integer_of, size_of

# A value that is kept as it is, or one of QEMU's three other types.
STRING, BOOL, NUMBER, SIZE = "string", "bool", "number", "size"

_U64 = 1 << 64


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


def check_flat_list(
    pairs: list[tuple[str, str]], types: Mapping[str, str], language: str = EXACT
) -> dict[str, str | int]:
    """The values by key, the last of each; `types` says which keys there are and of which type.

    Booleans come out as 0 and 1.  `language` is that of sizes (`qmpd.common.scalars`).

    :raise Refusal: a key is unknown or a value not of its type.
    """
    values: dict[str, str | int] = {}
    for key, value in pairs:
        kind = types.get(key)
        if kind is None:
            raise Refusal("option-unknown", name=key)
        if kind == STRING:
            values[key] = value
        elif kind == BOOL:
            values[key] = boolean(key, value)
        elif kind == NUMBER:
            values[key] = number(key, value)
        else:
            values[key] = size(key, value, language)
    return values


def boolean(key: str, value: str) -> bool:
    """A boolean value.

    :raise Refusal: it is none.
    """
    try:
        return boolean_of(value)
    except ValueError:
        raise Refusal("boolean-value", name=key) from None


def number(key: str, value: str) -> int:
    """A number of a flat list: 64 bits without sign, into which a negative one wraps.

    :raise Refusal: it is none, or too large.
    """
    try:
        integer = integer_of(value)
    except ValueError:
        raise Refusal("number-value", name=key) from None
    if abs(integer) >= _U64:
        raise Refusal("number-too-large", name=key, value=value)
    return integer % _U64


def signed_integer(key: str, value: str) -> int:
    """An integer of a tree: 64 bits with a sign.

    :raise Refusal: it is none.
    """
    try:
        integer = integer_of(value)
    except ValueError:
        integer = _U64
    if not -_U64 // 2 <= integer < _U64 // 2:
        raise Refusal("integer-value", name=key)
    return integer


def size(key: str, value: str, language: str = EXACT) -> int:
    """A size in bytes.

    :raise Refusal: it is none, or too large.
    """
    try:
        return size_of(value, language)
    except ValueError:
        raise Refusal("size-value", name=key) from None
    except OverflowError:
        raise Refusal("size-too-large", name=key, value=value) from None


def _is_name(fragment: str) -> bool:
    """Whether QAPI allows this as a name: a letter, then letters, digits, `-` and `_`."""
    return (
        fragment[:1].isalpha()
        and fragment.isascii()
        and all(character.isalnum() or character in "-_" for character in fragment)
    )


def _is_index(fragment: str) -> bool:
    """Whether it is a place in a list."""
    return is_digits(fragment)


# A tree's leaves are strings.
Tree = dict[str, "str | Tree"]


def tree(text: str, implied: str = "") -> Tree:
    """The tree of a list with dotted keys; a first value without a key belongs to `implied`, if any.

    :raise Refusal: a key is not one, lacks its value, or is used both as a leaf and as a branch; or help is asked for.
    """
    root, asks = tree_or_help(text, implied)
    if asks:
        raise Refusal("help-unavailable")
    return root


def tree_or_help(text: str, implied: str = "") -> tuple[Tree, bool]:
    """The same, and whether help is asked for: by a key without a value, which is no part of the tree.

    :raise Refusal: a key is not one, lacks its value, or is used both as a leaf and as a branch.
    """
    root: Tree = {}
    asks = False
    position = 0
    while position < len(text):
        comma, equals = text.find(",", position), text.find("=", position)
        end = min(mark for mark in (comma, equals, len(text)) if mark >= 0)
        key = text[position:end]
        if end == equals:
            value, following = _until_comma(text, end + 1)
        elif key in ("help", "?"):
            asks, position = True, end + 1
            continue
        elif position == 0 and key and implied:
            # A value without its key cannot hold a comma: `,,` ends it like `,`.
            key, value, following = implied, key, end
        else:
            value, following = None, end
        plant(root, key, value)
        position = following + 1
    return root, asks


def plant(root: Tree, key: str, value: str | None, *, is_checked: bool = True) -> None:
    """Put a value into a tree; `is_checked`: parts of keys have to be names.

    :raise Refusal: the key is none, has no value, or is used both as a leaf and as a branch.
    """
    *branches, leaf = key.split(".")
    place, path = root, ""
    for fragment in branches:
        if is_checked and not (_is_name(fragment) or (path and _is_index(fragment))):
            raise Refusal("option-unknown", name=key)
        path += fragment + "."
        below = place.setdefault(fragment, {})
        if isinstance(below, str):
            raise Refusal("keys-inconsistent", path=path)
        place = below
    if is_checked and not (_is_name(leaf) or (path and _is_index(leaf))):
        raise Refusal("option-unknown", name=key)
    if value is None:
        raise Refusal("key-without-value", name=key)
    if isinstance(place.get(leaf), dict):
        raise Refusal("keys-inconsistent", path=f"{path}{leaf}.")
    place[leaf] = value
