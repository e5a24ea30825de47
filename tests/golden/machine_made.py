"""The machines that real QEMU makes of command lines, and the program that records them.

`python -m tests.golden.machine_made RELEASE PROGRAM...` runs PROGRAM with each line of `machine_lines.txt`, and of
`emulator_lines.txt` those that the release accepts (`tests.golden.emulator_line`), and asks the machine what it has.
`RELEASE/machine_made.jsonl.gz` has a line for each that is accepted: `{"line", "answers": {question: reply}}`, without
what is of one process only.

`machines_left_out.txt` holds what qmpd does not answer as QEMU does: release, question and command line, and why.
"""

from __future__ import annotations

import functools
import gzip
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.golden import DIRECTORY, emulator_line

QUESTIONS: dict[str, dict[str, Any]] = {
    "/machine/peripheral": {"execute": "qom-list", "arguments": {"path": "/machine/peripheral"}},
    "/objects": {"execute": "qom-list", "arguments": {"path": "/objects"}},
    "/chardevs": {"execute": "qom-list", "arguments": {"path": "/chardevs"}},
    **{
        name: {"execute": name}
        for name in ("query-named-block-nodes", "query-chardev", "query-memdev", "query-cpus-fast")
    },
}
"""What each machine is asked, by the name that the recording has for it."""

_NEGOTIATION = {"execute": "qmp_capabilities"}
TALK = "".join(json.dumps(each) for each in (_NEGOTIATION, *QUESTIONS.values(), {"execute": "quit"})).encode()
"""The whole conversation, as it is sent."""

# Of one process only: threads, terminals, free ports and files, and the two digits of a name that is made up.
_MOMENTARY = (
    (re.compile(r'"thread-id": \d+'), '"thread-id": 0'),
    (re.compile(r"/dev/pts/\d+"), "/dev/pts/0"),
    (re.compile(r"#chr\d{3}"), "#chr000"),
    (re.compile(r"#net(\d+?)\d\d\b"), r"#net\1"),
    (re.compile(r"#block(\d+?)\d\d\b"), r"#block\1"),
    (re.compile(r"/tmp/qmpd-\d+-\d+\.cfg"), "CONFIG"),
    (re.compile(r"(127\.0\.0\.1|localhost|0\.0\.0\.0|::1?\]?):[1-9]\d{4}\b"), r"\1:PORT"),
)


def comparable(reply: dict[str, Any]) -> dict[str, Any]:
    """A reply without what is of one process only."""
    text = json.dumps(reply)
    for pattern, instead in _MOMENTARY:
        text = pattern.sub(instead, text)
    found: dict[str, Any] = json.loads(text)
    return found


def answers(said: bytes) -> dict[str, dict[str, Any]] | None:
    """The replies to the questions in what was said from the greeting on; None where they are not all there."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith(b"{")]
    replies = [line for line in lines if "return" in line or "error" in line][1:]
    if len(replies) < len(QUESTIONS):
        return None
    return {name: comparable(reply) for name, reply in zip(QUESTIONS, replies, strict=False)}


@functools.cache
def load(release: str) -> list[dict[str, Any]]:
    """What machine the release made of each command line that it accepts."""
    with gzip.open(DIRECTORY / release / "machine_made.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        row["answers"] = {question: comparable(answer) for question, answer in row["answers"].items()}
    return rows


def left_out() -> set[tuple[str, str, str]]:
    """What is not answered as QEMU does: release, question, command line."""
    found = set()
    for line in (DIRECTORY / "machines_left_out.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            release, question, options = line.split(" ", 2)
            found.add((release, question, options))
    return found


def record(release: str, program: list[str]) -> None:
    """Record all of the lines."""
    accepted = [row["line"] for row in emulator_line.load(release) if row["status"] == 0 and "stdout" not in row]
    accepted += (DIRECTORY / "machine_lines.txt").read_text(encoding="utf-8").splitlines()
    with ThreadPoolExecutor(2) as pool:
        rows = pool.map(lambda line: (line, answers(emulator_line.converse(program, line, TALK).stdout)), accepted)
        found = [json.dumps({"line": line, "answers": replies}) for line, replies in rows if replies is not None]
    path = Path(DIRECTORY / release / "machine_made.jsonl.gz")
    path.write_bytes(gzip.compress(("\n".join(found) + "\n").encode(), 9, mtime=0))
    print(release, len(found), "of", len(accepted))


if __name__ == "__main__":
    record(sys.argv[1], sys.argv[2:])
