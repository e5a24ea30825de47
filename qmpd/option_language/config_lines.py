"""The lines of files with options: `[group "id"]` and `key = "value"` (docs: "qemu-config", util/qemu-config.c)."""

from __future__ import annotations

import re

from qmpd.common.refusals import Refusal

_SECTION = re.compile(r'\[\s*(\S{1,63})\s+"([^"]{1,63})"')
# What ends it is not looked at.
_GROUP = re.compile(r"\[([^\]]{1,63})")
_PAIR = re.compile(r'\s*(\S{1,63})\s*=\s*"([^"]{0,1023})')


def is_ignored(line: str) -> bool:
    """Whether a line, with its end, says nothing."""
    return line[0] in "\n#"


def heading(line: str) -> tuple[str, str | None] | None:
    """The group that a section is of, and its id; None where the line begins none."""
    if line[0] != "[":
        return None
    named, plain = _SECTION.match(line), _GROUP.match(line)
    if named is not None:
        return named[1], named[2]
    return None if plain is None else (plain[1], None)


def pair(line: str) -> tuple[str, str]:
    """The key and the value of a line; a word without a quoted value has an empty one.

    :raise Refusal: there is neither.
    """
    found = _PAIR.match(line)
    if found is not None:
        return found[1], found[2]
    words = line.split()
    if not words:
        raise Refusal("config-parse")
    return words[0], ""
