"""A mutant, and what became of it."""

from __future__ import annotations

import difflib
import enum
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Mutant:
    """One change of one function.

    `file` and `line` (the first one that differs) are where it is, `function` is its name with its class's; `old` is
    what is there (one line, most often) and `new` what is there instead.  `key` is mutmut's name for it.
    """

    file: str
    line: int
    function: str
    old: str
    new: str
    key: str


class Verdict(enum.Enum):
    """What became of a mutant that was looked at."""

    TESTS = "noticed by tests"
    TYPES = "noticed by types"
    SURVIVED = "survived"


def verdict(status: int | None) -> Verdict | None:
    """What the exit status says that mutmut wrote down; None where it did not come to that mutant."""
    match status:
        case None | 2 | 34:
            return None
        case 0 | 5 | 33:
            # Nothing failed, or there was nothing that comes by.
            return Verdict.SURVIVED
        case 37:
            return Verdict.TYPES
        case _:
            # A test failed, or it hung, or it did not live to tell.
            return Verdict.TESTS


@dataclass(frozen=True)
class Equivalent:
    """A mutant that nobody can tell from the original, and why that is so."""

    file: str
    function: str
    old: str
    new: str
    reason: str

    def is_of(self, mutant: Mutant) -> bool:
        """Whether it is this one."""
        return (self.file, self.function, self.old, self.new) == (
            mutant.file, mutant.function, mutant.old, mutant.new,
        )  # fmt: skip


def difference(old: list[str], new: list[str]) -> tuple[int, str, str]:
    """Where two texts begin to differ, and the lines of each that do."""
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    changes = [each[1:] for each in matcher.get_opcodes() if each[0] != "equal"]
    first, _, start, _ = changes[0]
    _, last, _, end = changes[-1]
    return first, _stripped(old[first:last]), _stripped(new[start:end])


def _stripped(lines: list[str]) -> str:
    return "\n".join(line.strip() for line in lines)
