"""The command line of `scripts/mutants`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from endurance.defects.planting import ROOT, CannotRun, copy
from endurance.mutants import running
from endurance.mutants.page import Findings, page, survivors, table
from endurance.mutants.sampling import FOLDERS, WHOLE, chosen

COUNT = 500
"""Mutants that are chosen by chance: so many as two cores look at in ten minutes, with those that always are."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="mutants",
        description="Changes small things in the wire, the machine and the monitor, one at a time, and tells which "
        "changes neither the types nor the tests notice. Fails where one survives that must not: in the main loop's "
        "turn, a session's queue, the limit on events, or a file that is named.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="look at these alone, and at all of each")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="chooses among the others [%(default)s]")
    parser.add_argument("--count", type=int, default=COUNT, metavar="N", help="how many of the others [%(default)s]")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M", help="how long at most [%(default)g]")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="how many at once [%(default)s]"
    )
    parser.add_argument("-o", metavar="FILE", help="write the page of the documentation to this file")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Look at mutants.

    The result is the exit status: 1 where one survived that must not, or was not looked at; 2 where mutmut fails.
    """
    options = parse(arguments)
    began = time.monotonic()
    files, whole = tuple(options.files), WHOLE + tuple(options.files)
    missing = [each for each in files if not (ROOT / each).is_file()]
    if missing:
        sys.stderr.write(f"mutants: there is no file {', '.join(missing)}\n")
        return 2
    files = files or tuple(
        str(path.relative_to(ROOT)) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))
    )
    try:
        findings = _found(files, whole, options, began + options.minutes * 60)
    except CannotRun as error:
        sys.stderr.write(f"mutants: mutmut cannot be run:\n{error}\n")
        return 2
    found = findings.survivors()
    sys.stdout.write(f"{table(findings)}\n{survivors(found)}\n")
    if options.o is not None:
        told = " ".join((f"--seed {options.seed} --count {options.count}", *options.files))
        Path(options.o).write_text(page(findings, told), encoding="utf-8")
    if findings.left:
        sys.stdout.write(f"there was no time for {len(findings.left)} of those that were chosen\n")
    forbidden = [mutant for mutant in found if mutant.file in whole]
    unknown = [mutant for mutant in findings.left if mutant.file in whole]
    told = f"{len(forbidden)} that must not" if forbidden else "none that must not"
    told += f", {len(unknown)} that must not were not looked at" if unknown else ""
    sys.stdout.write(f"{len(found)} survived, {told}; {time.monotonic() - began:.0f} s\n")
    return int(bool(forbidden or unknown))


def _found(files: tuple[str, ...], whole: tuple[str, ...], options: argparse.Namespace, deadline: float) -> Findings:
    with copy(None) as folder:
        running.configure(folder, files, options.seed)
        mutants = running.made(folder, files)
        mine = chosen(mutants, options.seed, options.count, whole)
        sys.stdout.write(f"{len(mine)} of {len(mutants)} mutants in {options.minutes:g} minutes at most\n")
        sys.stdout.flush()
        # What is not chosen from costs nothing.
        running.configure(folder, sorted({mutant.file for mutant in mine}), options.seed)
        running.run(folder, mine, options.processes, deadline - time.monotonic() - running.GRACE)
        verdicts = running.verdicts(folder, mine)
    return Findings(mutants, mine, verdicts, running.equivalents())


if __name__ == "__main__":
    sys.exit(main())
