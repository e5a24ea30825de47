"""Values of options that may have been given as text, as `-drive` does: such are told as they were given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

TREE = "tree"
"""What an option is that is neither text nor one of `qmpd.option_language.key_values`' types."""

_ON = ("on", "yes", "true", "y")
_OFF = ("off", "no", "false", "n")


def is_flag(text: object) -> bool:
    """Whether a text says that a flag is set, or that it is not."""
    return text in _ON or text in _OFF


def group(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The options of a group, which may be an object, or flat: `name.member`."""
    prefix = f"{name}."
    flat = {key.removeprefix(prefix): value for key, value in options.items() if key.startswith(prefix)}
    return {**(options.get(name) or {}), **flat}


def text_of(value: object) -> str:
    """A flag, or a number, as it is written where all is text."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.17g}" if isinstance(value, float) else "" if value is None else str(value)


def is_on(text: object) -> bool:
    """Whether a flag is set."""
    return text is True or text in _ON


def number(value: object) -> int:
    """A number, or a size that was given as text; 0 where it is none."""
    if isinstance(value, int):
        return value
    text = str(value)
    digits, unit = text, 0
    if text[-1:].lower() in tuple("bkmgt"):
        digits, unit = text[:-1], 10 * "bkmgt".index(text[-1].lower())
    try:
        return int(digits, 0) << unit
    except ValueError:
        return 0
