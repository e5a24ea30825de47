"""The command line of a release's program: its options, and what it prints when it is asked what there is.

A file of lines keeps both: `{"list": [word, ...], "status": 0, "text": ...}` is what the program prints for these
words, with `PROGRAM` for its own name, and its exit status (`"choice": NAME` instead of the text where that is the
names of this choice, a line each); `{"option": "name", "argument": true}` is an option that takes an argument;
`{"features": [text, ...]}` is what its emulator lacks of the CPUs' features, as it names each;
`{"choice": "displays", "names": [...]}` is what can be chosen somewhere (`qmpd.capture.choices` has what and where);
`{"group": "spice", "keys": {name: type, ...}}` are the keys of a list that query-command-line-options does not tell of.
The keys of all other lists stand in the captured reply to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    that the emulator (TCG) cannot give a CPU, by the names that its warnings have for them, in their order; `groups`
    the keys and their types of those lists that no query tells of.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        self.options: dict[str, bool] = {}
        self.missing_features: list[str] = []
        self.groups: dict[str, dict[str, str]] = {}
        self._choices: dict[str, tuple[str, ...]] = {}
        self._lists: dict[tuple[str, ...], dict[str, Any]] = {}
        for line in lines:
            entry = orjson.loads(line)
            if "option" in entry:
                self.options[entry["option"]] = entry["argument"]
            elif "features" in entry:
                self.missing_features = entry["features"]
            elif "list" in entry:
                self._lists[tuple(entry["list"])] = entry
            elif "choice" in entry:
                self._choices[entry["choice"]] = tuple(entry["names"])
            else:
                self.groups[entry["group"]] = entry["keys"]

    def choices(self, name: str) -> tuple[str, ...]:
        """What there is to choose from: `displays`, `network-backends` and the like; none where it is not known."""
        return self._choices.get(name, ())

    def text(self, *words: str, program: str) -> tuple[str, int] | None:
        """What the program of this name prints for these words, and its exit status; None where it is not known."""
        found = self._lists.get(words)
        if found is None:
            return None
        if "choice" in found:
            return "".join(f"{name}\n" for name in self.choices(found["choice"])), found["status"]
        return found["text"].replace(PROGRAM, program), found["status"]
