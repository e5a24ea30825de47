"""Trees of keys that several options make together, and devices that are JSON."""

from __future__ import annotations

from qmpd.option_language import key_values
from qmpd.option_language.errors import OptionError


def merge(into: key_values.Tree, tree: key_values.Tree) -> None:
    """Put what a tree says into another one."""
    for key, value in tree.items():
        place = into.get(key)
        if isinstance(place, dict) and isinstance(value, dict):
            merge(place, value)
        else:
            into[key] = value


def device_of_json(text: str, dialect: str) -> dict[str, str]:
    """The properties of a `-device` that is a JSON object, spelled as in a list; `dialect` is the release's.

    :raise OptionError: it is none.
    """
    from qmpd.wire.json_text import parse

    try:
        members = parse(text, dialect)
    except ValueError as error:
        raise OptionError(str(error)) from None
    assert isinstance(members, dict)
    words = {True: "on", False: "off"}
    return {
        key: words[value] if isinstance(value, bool) else value if isinstance(value, str) else str(value)
        for key, value in members.items()
    }
