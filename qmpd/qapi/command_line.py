"""The command line of a release's program: its options, and what it prints when it is asked what there is.

A file of lines keeps both: `{"list": [word, ...], "status": 0, "text": ...}` is what the program prints for these
words, with `PROGRAM` for its own name, and its exit status; `{"option": "name", "argument": true}` is an option that
takes an argument; `{"features": [text, ...]}` is what its emulator lacks of the CPUs' features, as it names each.  The
keys of each option's list stand in the captured reply to query-command-line-options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

PROGRAM = "«program»"

LISTS = (
    ("-version",),
    ("-help",),
    ("-machine", "help"),
    ("-cpu", "help"),
    ("-accel", "help"),
    ("-device", "help"),
    ("-object", "help"),
    ("-netdev", "help"),
    ("-chardev", "help"),
    ("-display", "help"),
    ("-audiodev", "help"),
    ("-vga", "help"),
    ("-d", "help"),
    ("-nic", "help"),
    ("-drive", "format=help"),
    ("-audio", "none,model=help"),
    ("-trace", "help"),
    ("-plugin", "help"),
    ("-msg", "help"),
    ("-spice", "help"),
    ("-machine", "pc,help"),
    ("-machine", "q35,help"),
    ("-machine", "isapc,help"),
    ("-machine", "microvm,help"),
    ("-machine", "none,help"),
    ("-L", "help"),
)
"""What is asked for and printed, where the release knows it."""


class CommandLine:
    """The options of a release's program, and its lists.

    `options` gives for each option, without its dash, whether it takes an argument; `missing_features` the features
    that the emulator (TCG) cannot give a CPU, by the names that its warnings have for them, in their order.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self.options: dict[str, bool] = {}
        self.missing_features: list[str] = []
        self._lists: dict[tuple[str, ...], tuple[str, int]] = {}
        for line in lines:
            entry = orjson.loads(line)
            if "option" in entry:
                self.options[entry["option"]] = entry["argument"]
            elif "features" in entry:
                self.missing_features = entry["features"]
            else:
                self._lists[tuple(entry["list"])] = entry["text"], entry["status"]

    def text(self, *words: str, program: str) -> tuple[str, int] | None:
        """What the program of this name prints for these words, and its exit status; None where it is not known."""
        found = self._lists.get(words)
        return None if found is None else (found[0].replace(PROGRAM, program), found[1])
