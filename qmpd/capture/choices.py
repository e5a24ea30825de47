"""What a program's options can be given, as the lists tell that it prints about itself.

The lists are read here, where a program is asked, and nowhere else: whoever looks for a name finds it in a table.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from qmpd.capture.lines import spell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Texts = Mapping[tuple[str, ...], str]

_KEY = re.compile(r"^  ([^=\s]+)=<([^>]+)>", re.MULTILINE)
_KINDS = {"str": "string", "bool (on/off)": "boolean", "num": "number", "size": "size"}
# Groups of modules: query-command-line-options tells of them once they are loaded.
_MODULES = ("spice",)


def _names(text: str) -> list[str]:
    """A line each, behind a title and up to the first line that is empty."""
    return [line.strip() for line in text.partition("\n\n")[0].splitlines()[1:]]


def _first_words(text: str) -> list[str]:
    """The first word of each line that does not go on with another one, behind a title."""
    return [line.split()[0] for line in text.splitlines()[1:] if line[:1].strip()]


def _untitled(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.strip()]


def _formats(text: str) -> list[str]:
    return text.partition(":")[2].partition("\n")[0].split()


_READERS: dict[str, tuple[tuple[str, ...], Callable[[str], list[str]]]] = {
    "accelerators": (("-accel", "help"), _names),
    "audio-drivers": (("-audiodev", "help"), _names),
    "block-drivers": (("-drive", "format=help"), _formats),
    "displays": (("-display", "help"), _names),
    "log-items": (("-d", "help"), _first_words),
    "network-backends": (("-netdev", "help"), _names),
    "sound-cards": (("-audio", "none,model=help"), _first_words),
    "trace-events": (("-trace", "help"), str.splitlines),
    "vga-cards": (("-vga", "help"), _untitled),
}


BARE = {("-trace", "help"): "trace-events"}
"""The lists that are nothing but names, a line each, and what can be chosen there."""


def choices(texts: Texts) -> list[bytes]:
    """The lines of command-line.jsonl.gz that say what can be chosen; `texts` is what was printed for which words."""
    lines = []
    for name, (words, read) in _READERS.items():
        if words in texts:
            lines.append(spell({"choice": name, "names": read(texts[words])}))
    for group in _MODULES:
        listed = _KEY.findall(texts.get((f"-{group}", "help"), ""))
        found: dict[str, Any] = {name: _KINDS[kind] for name, kind in listed}
        if found:
            lines.append(spell({"group": group, "keys": found}))
    return lines
