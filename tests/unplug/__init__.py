"""Devices that leave machines whose guests have run, compared with real QEMU (`python -m tests.unplug`).

`tests/golden/RELEASE/unplug.jsonl.gz` has a scenario a line: `{"scenario", "came": [[[LINE, ...], ...], ...]}`, for
each time it was played the lines of each step, where they were not those of another time.
"""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING

from tests.golden import DIRECTORY

if TYPE_CHECKING:
    from pathlib import Path

_VOLATILE = (
    (re.compile(r'"timestamp": \{[^}]*\}'), '"timestamp": T'),
    (re.compile(r"#block\d+"), "#blockN"),
)


def plain(line: str) -> str:
    """A line without what is this run's own."""
    for pattern, replacement in _VOLATILE:
        line = pattern.sub(replacement, line)
    return line


def file_of(release: str) -> Path:
    """Where the recordings of a release are."""
    return DIRECTORY / release / "unplug.jsonl.gz"


def recorded(release: str) -> dict[str, list[list[list[str]]]]:
    """What has come in each scenario, by its name."""
    if not file_of(release).exists():
        return {}
    with gzip.open(file_of(release), "rt", encoding="utf-8") as lines:
        return {each["scenario"]: each["came"] for each in map(json.loads, lines)}
