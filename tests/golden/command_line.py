"""Command lines and what real QEMU made of them, and the program that records them.

`python -m tests.golden.command_line RELEASE PROGRAM...` runs PROGRAM with each line of `command_lines.txt` and writes
`RELEASE/command_line.jsonl.gz`: a line each: `{"options", "status", "stderr", "facts"?}`, where `facts` are what
the program answered on QMP: `name`, `uuid`, `memory` (bytes), `status`, `cpus` (how many), `slots` (how many
CPUs are possible) and `last` (the place of the last of these).
"""

from __future__ import annotations

import functools
import gzip
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.golden import DIRECTORY

LINES = (DIRECTORY / "command_lines.txt").read_text(encoding="utf-8").splitlines()

_COMMANDS = [
    "qmp_capabilities",
    "query-status",
    "query-name",
    "query-uuid",
    "query-memory-size-summary",
    "query-cpus-fast",
    "query-hotpluggable-cpus",
    "quit",
]


@functools.cache
def load(release: str) -> list[dict[str, Any]]:
    """What the release made of each command line."""
    with gzip.open(DIRECTORY / release / "command_line.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def run(program: list[str], options: list[str]) -> dict[str, Any]:
    """Start the program with these options, ask it about itself and end it."""
    talk = "".join(json.dumps({"execute": command, "id": command}) for command in _COMMANDS)
    argv = [*program, "-nodefaults", "-display", "none", "-S", "-qmp", "stdio", *options]
    ended = subprocess.run(argv, input=talk.encode(), capture_output=True, timeout=30, check=False)
    row: dict[str, Any] = {"options": options, "status": ended.returncode}
    row["stderr"] = ended.stderr.decode("utf-8", "surrogateescape").splitlines()
    if ended.returncode == 0:
        replies = {
            reply["id"]: reply.get("return") for reply in map(json.loads, ended.stdout.splitlines()) if "id" in reply
        }
        possible = replies["query-hotpluggable-cpus"] or []
        row["facts"] = {
            "name": replies["query-name"].get("name"),
            "uuid": replies["query-uuid"]["UUID"],
            "status": replies["query-status"]["status"],
            "memory": (replies["query-memory-size-summary"] or {}).get("base-memory"),
            "cpus": len(replies["query-cpus-fast"] or []),
            "slots": len(possible),
            "last": possible[0]["props"] if possible else None,
        }
    return row


def record(release: str, program: list[str]) -> None:
    """Record all of the lines."""
    rows = [json.dumps(run(program, shlex.split(line))) for line in LINES]
    path = Path(DIRECTORY / release / "command_line.jsonl.gz")
    path.write_bytes(gzip.compress(("\n".join(rows) + "\n").encode(), 9, mtime=0))
    print(release, len(rows))


if __name__ == "__main__":
    record(sys.argv[1], sys.argv[2:])
