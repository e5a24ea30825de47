"""The command line of `scripts/defects`."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from endurance.defects.catalogue import DEFECTS
from endurance.defects.planting import CannotRun, DoesNotApply, by_fuzz, by_soak, by_tests, copy

if TYPE_CHECKING:
    from endurance.defects.planting import Defect, Verdict

HEAD = "| defect | part | what is wrong | tests | soak | fuzz |\n|---|---|---|---|---|---|\n"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="defects",
        description="Plants each deliberate defect in a copy of qmpd and runs the tests that have to notice it.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which defects [all]")
    parser.add_argument("--list", action="store_true", help="say which there are, and run nothing")
    parser.add_argument("--soak", type=float, default=0.0, metavar="M", help="run the soak for M minutes, too")
    parser.add_argument("--fuzz", type=float, default=0.0, metavar="M", help="run the fuzz for M minutes, too")
    parser.add_argument("-o", metavar="FILE", help="write the table to this file, too")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Plant them; the result is the exit status: 1 where one is not noticed, or cannot be planted."""
    options = parse(arguments)
    unknown = set(options.names) - {defect.name for defect in DEFECTS}
    if unknown:
        sys.stderr.write(f"defects: there is no defect {', '.join(sorted(unknown))}\n")
        return 2
    chosen = [defect for defect in DEFECTS if not options.names or defect.name in options.names]
    if options.list:
        for defect in chosen:
            sys.stdout.write(f"{defect.name:24} {defect.part:14} {defect.what}\n")
        return 0
    lines, unnoticed = [], []
    for defect in chosen:
        began = time.monotonic()
        try:
            verdicts = _tried(defect, options.soak, options.fuzz)
        except (DoesNotApply, CannotRun) as error:
            sys.stdout.write(f"{defect.name}: {error}\n")
            unnoticed.append(defect.name)
            continue
        if not any(verdict is not None and verdict.noticed for verdict in verdicts):
            unnoticed.append(defect.name)
        lines.append(_line(defect, verdicts))
        sys.stdout.write(f"{lines[-1]} {time.monotonic() - began:.0f} s\n")
        sys.stdout.flush()
    if options.o is not None:
        with open(options.o, "w", encoding="utf-8") as file:
            file.write(HEAD + "".join(f"{line}\n" for line in lines))
    told = f"not noticed: {', '.join(unnoticed)}" if unnoticed else "all are noticed"
    sys.stdout.write(f"{len(chosen)} defects; {told}\n")
    return int(bool(unnoticed))


def _tried(defect: Defect, soak: float, fuzz: float) -> tuple[Verdict | None, Verdict | None, Verdict | None]:
    with copy(defect) as folder:
        return (
            by_tests(folder, defect.tests) if defect.tests else None,
            by_soak(folder, soak) if soak and defect.soak else None,
            by_fuzz(folder, fuzz) if fuzz and defect.fuzz else None,
        )


def _line(defect: Defect, verdicts: tuple[Verdict | None, ...]) -> str:
    cells = [_cell(verdict) for verdict in verdicts]
    return f"| {defect.name} | {defect.part} | {defect.what} | {' | '.join(cells)} |"


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    return f"`{verdict.words}`" if verdict.noticed else "not noticed"


if __name__ == "__main__":
    sys.exit(main())
