"""What a run has found: the score by file, the survivors, and those that nobody can tell from the original."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from endurance.mutants.mutant import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from endurance.mutants.mutant import Equivalent, Mutant

HEAD = """\
# Mutants: do the tests notice?

```
./scripts/mutants
```

[mutmut](https://mutmut.readthedocs.io) makes mutants of `qmpd/wire`, `qmpd/machine` and `qmpd/monitor`: copies with one
small change each (another operator, another number, a condition that always holds, an argument left out). The command
looks whether something notices: mypy, which is part of `./scripts/test`, or else a test. A mutant that nothing notices
has survived. It installs mutmut in `.venv` first (`pip install '.[mutants]'` does the same).

Of the main loop's turn, of a session with its queue and of the limit on events all mutants are looked at, and **none
may survive**. Of the other files it looks at some, chosen by chance: `--seed` chooses others, the same seed the same
ones, `--count` more or fewer, and files that are named are looked at completely. It takes ten minutes on two cores and
never more (`--minutes`), says what it did not come to, and fails where a mutant has survived that must not. `-o` writes
this page.

mutmut changes the bodies of functions alone, and of none with a decorator (properties and QMP's commands among them).
The tests are those that run in one process and are quick; what only slower ones notice counts as a survivor here.
"""

TITLES = (
    "| file | mutants | looked at | noticed by types | noticed by tests | survived | score |\n"
    "|---|---|---|---|---|---|---|\n"
)


@dataclass
class Score:
    """The counts of one file: `mutants` there are, and of those that were looked at how many came to what."""

    mutants: int = 0
    by: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))

    @property
    def looked_at(self) -> int:
        return sum(self.by.values())

    @property
    def percent(self) -> str:
        """How many of those that were looked at were noticed; rounded down, as 100 % has to be all."""
        if not self.looked_at:
            return ""
        return f"{(self.looked_at - self.by[Verdict.SURVIVED]) * 1000 // self.looked_at / 10:g} %"

    def __add__(self, other: Score) -> Score:
        return Score(self.mutants + other.mutants, {each: self.by[each] + other.by[each] for each in Verdict})


@dataclass(frozen=True)
class Findings:
    """What a run has found.

    `mutants` are all there are, `chosen` those that were to be looked at, `verdicts` what became of these, by their
    keys.  `equivalents` are left out of everything.
    """

    mutants: list[Mutant]
    chosen: list[Mutant]
    verdicts: dict[str, Verdict]
    equivalents: list[Equivalent]

    @property
    def left(self) -> list[Mutant]:
        """The mutants that were chosen and not looked at, for want of time."""
        return [mutant for mutant in self.chosen if mutant.key not in self.verdicts]

    def told(self) -> list[Mutant]:
        """The mutants that somebody could tell from the original."""
        return [mutant for mutant in self.mutants if not any(each.is_of(mutant) for each in self.equivalents)]

    def scores(self) -> dict[str, Score]:
        """The counts of each file that has mutants, by its path."""
        scores: dict[str, Score] = {}
        for mutant in self.told():
            score = scores.setdefault(mutant.file, Score())
            score.mutants += 1
            found = self.verdicts.get(mutant.key)
            if found is not None:
                score.by[found] += 1
        return dict(sorted(scores.items()))

    def survivors(self) -> list[Mutant]:
        """The mutants that nothing has noticed."""
        return sorted(each for each in self.told() if self.verdicts.get(each.key) is Verdict.SURVIVED)


def table(findings: Findings) -> str:
    """The score by file, and of all together."""
    scores = findings.scores()
    rows = [*scores.items(), ("together", sum(scores.values(), Score()))]
    return TITLES + "".join(_row(name, score) for name, score in rows)


def _row(name: str, score: Score) -> str:
    by = score.by
    cells = (
        f"`{name}`" if "/" in name else f"**{name}**", score.mutants, score.looked_at, by[Verdict.TYPES],
        by[Verdict.TESTS], by[Verdict.SURVIVED], score.percent,
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |\n"


def survivors(found: Iterable[Mutant]) -> str:
    """The survivors, a line for each."""
    lines = [
        f"| `{each.file}:{each.line}` | {each.function} | {_code(each.old)} | {_code(each.new)} |\n" for each in found
    ]
    return "| where | function | what is there | what nobody missed |\n|---|---|---|---|\n" + "".join(lines)


def equivalents(listed: Iterable[Equivalent]) -> str:
    """The mutants that are left out, each with the reason."""
    lines = [f"| {each.function} | {_code(each.old)} | {_code(each.new)} | {each.reason} |\n" for each in listed]
    return "| function | what is there | what would do the same | why |\n|---|---|---|---|\n" + "".join(lines)


def _code(text: str) -> str:
    """Code in a table's cell."""
    line = " ".join(text.split("\n")).replace("|", "\\|")
    if not line:
        return "(nothing)"
    return f"`` {line} ``" if "`" in line else f"`{line}`"


def page(findings: Findings, options: str) -> str:
    """The page of the documentation, of a run with these options."""
    left = f"; it did not come to {len(findings.left)} that were chosen" if findings.left else ""
    found = findings.survivors()
    parts = [HEAD, f"## The score\n\n`./scripts/mutants {options}`{left}:\n\n{table(findings)}"]
    if findings.equivalents:
        parts.append(
            "## What makes no difference\n\n"
            "These mutants are left out, for nobody can tell them from the original:\n\n"
            f"{equivalents(findings.equivalents)}"
        )
    parts.append(f"## The survivors\n\n{survivors(found)}" if found else "## The survivors\n\nThere are none.\n")
    return "\n".join(parts)
