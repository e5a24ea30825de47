"""Recordings of what real QEMU answered: one gzip file of JSON lines a release and group.

Each line is one scenario: `{"scenario", "options", "guest", "steps": [{"send", "recv"}, ...], "exit"?}`.

- `options`: QEMU's command line, beside the `-qmp unix:PATH,server=on,wait=off` that every run had.
- `guest`: the boot sector that acted as the guest, or null.
- `send`: the bytes of one step; `recv`: the lines that came back, without CR LF; both as latin-1 text.  A
  timestamp object is written `T`.  The greeting is not among the steps.
- `exit`: the exit status where the process ended by itself (negative: a signal).

In `protocol`, `arguments` and `queries` the scenarios of a group shared one process, each on a fresh
connection; in `lifecycle` and `guest` each had a process of its own.
"""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent
RELEASES = ("5.2", "7.2", "10.0", "11.1")
GROUPS = ("protocol", "arguments", "queries", "lifecycle", "guest")


@functools.cache
def load(release: str, group: str) -> list[dict[str, Any]]:
    """Return the scenarios of one group as recorded from QEMU `release`.

    :raise FileNotFoundError: no such release or group.
    """
    with gzip.open(DIRECTORY / release / f"{group}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
