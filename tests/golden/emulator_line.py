"""Command lines of QEMU's whole range of options, what real QEMU made of them, and the program that records them.

`python -m tests.golden.emulator_line RELEASE PROGRAM...` runs PROGRAM with each line of `emulator_lines.txt` and writes
`RELEASE/emulator_line.jsonl.gz`, a line each: `{"options", "status", "stderr"}`.  Complaints about modules that the
recorded program was not installed with are left out.  `emulator_lines_left_out.txt` holds the lines that qmpd does not
answer as QEMU does, each behind its release.
"""

from __future__ import annotations

import functools
import gzip
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from tests.golden import DIRECTORY, command_line

RELEASES = ("7.2", "10.0")
LINES = (DIRECTORY / "emulator_lines.txt").read_text(encoding="utf-8").splitlines()


@functools.cache
def load(release: str) -> list[dict[str, Any]]:
    """What the release made of each command line."""
    with gzip.open(DIRECTORY / release / "emulator_line.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def left_out() -> dict[str, set[str]]:
    """The lines that are not answered as QEMU does, by release."""
    found: dict[str, set[str]] = {}
    for line in (DIRECTORY / "emulator_lines_left_out.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            release, _, options = line.partition(" ")
            found.setdefault(release, set()).add(options)
    return found


def record(release: str, program: list[str]) -> None:
    """Record all of the lines."""
    rows = []
    for line in LINES:
        row = command_line.run(program, shlex.split(line))
        said = [text for text in row["stderr"] if not (text.startswith("qemu: module ") and "not found" in text)]
        rows.append(json.dumps({"options": row["options"], "status": row["status"], "stderr": said}))
    path = Path(DIRECTORY / release / "emulator_line.jsonl.gz")
    path.write_bytes(gzip.compress(("\n".join(rows) + "\n").encode(), 9, mtime=0))
    print(release, len(rows))


if __name__ == "__main__":
    record(sys.argv[1], sys.argv[2:])
