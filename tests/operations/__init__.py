"""Recordings of long operations: jobs, bitmaps, transactions, snapshots, exports, migration, dumps, the guest agent.

One gzip file of JSON lines a release and group, below `recorded/`; a line as in `tests/golden`, and beside that:

- `prepare`: shell lines that were run in the scratch folder beforehand; `@DIR@` is that folder, `@PORT@` a free port,
  `@PID@` the process that the last guest-exec began, `#blockN` a node's automatic name.
- a step's `until`: it lasted until an event came, "NAME" or "NAME/value" where a member of its data has that value.
- `poll`: the command was repeated until the reply held one of these words (a|b).
- `fd`: a file descriptor went with the message, "file:PATH", opened for reading and writing.
- `varies`: JSON paths ("line.key.key") whose values differ from run to run; first "passes" where the number of
  MIGRATION_PASS events does; or "lines" where lines themselves do: then `also` has the other runs' lines.
- `peer`: the second machine, `{"options", "steps", "exit"?, "stderr"?}`; then `at` is the order of the steps over both.
"""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded"
RELEASES = ("5.2", "7.2", "10.0", "11.1")


@functools.cache
def load(release: str, group: str) -> list[dict[str, Any]]:
    """Return the scenarios of one group as recorded from QEMU `release`.

    :raise FileNotFoundError: no such release or group.
    """
    with gzip.open(RECORDED / release / f"{group}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
