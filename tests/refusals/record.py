"""Keeping what real QEMU answers: `python -m tests.refusals.record [RELEASE...]` asks what is not recorded yet.

`tests/golden/RELEASE/refusals.jsonl.gz` has a line for each: `{"key", "answer"}` (`tests.refusals.table`,
`tests.refusals.asking`).  What is not asked any more is dropped.  `--again` asks everything anew.
"""

from __future__ import annotations

import gzip
import json
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.golden import DIRECTORY, RELEASES
from tests.real_qemu import programs
from tests.refusals.asking import ask_real
from tests.refusals.table import COLD, HOT, asked

if TYPE_CHECKING:
    from tests.refusals.asking import Answer


def path_of(release: str) -> Path:
    """Where the answers of a release are kept."""
    return DIRECTORY / release / "refusals.jsonl.gz"


@cache
def load(release: str) -> dict[str, Answer]:
    """The answers of a release, by key; none where nothing is recorded."""
    try:
        with gzip.open(path_of(release), "rt", encoding="utf-8") as lines:
            entries = [json.loads(line) for line in lines]
    except FileNotFoundError:
        return {}
    return {entry["key"]: entry["answer"] for entry in entries}


def record(release: str, *, again: bool) -> None:
    """Ask the real program of a release."""
    wanted = asked(*COLD, *HOT)
    known = {} if again else load(release)
    missing = [each for each in wanted if each.key not in known]
    known = known | ask_real(programs()[release], missing)
    lines = [json.dumps({"key": each.key, "answer": known[each.key]}, ensure_ascii=False) for each in wanted]
    kept = dict.fromkeys(lines)
    path_of(release).write_bytes(gzip.compress(("\n".join(kept) + "\n").encode(), 9, mtime=0))
    print(f"{release}: {len(kept)} answers, {len(missing)} of them new")


if __name__ == "__main__":
    words = sys.argv[1:]
    for name in [word for word in words if not word.startswith("-")] or RELEASES:
        record(name, again="--again" in words)
