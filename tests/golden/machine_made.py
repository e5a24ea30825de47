"""The machines that real QEMU makes of command lines, and the program that records them.

`python -m tests.golden.machine_made [--again] RELEASE PROGRAM...` runs PROGRAM with each line of `machine_lines.txt`,
and of `emulator_lines.txt` those that the release accepts (`tests.golden.emulator_line`), and asks the machine what it
has; of machines that are made without `-nodefaults` (`DEFAULTS`) more than of others.
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

OF_DEFAULTS: dict[str, dict[str, Any]] = {
    **QUESTIONS,
    **{
        path: {"execute": "qom-list", "arguments": {"path": path}}
        for path in ("/machine/peripheral-anon", "/machine/unattached", "/backend")
    },
    **{name: {"execute": name} for name in ("query-block", "query-pci", "query-rx-filter")},
    "info network": {"execute": "human-monitor-command", "arguments": {"command-line": "info network"}},
}
"""What a machine is asked that has what it has by default."""

_NEGOTIATION = {"execute": "qmp_capabilities"}


def questions(line: str) -> dict[str, dict[str, Any]]:
    """What the machine is asked that this line makes."""
    return OF_DEFAULTS if emulator_line.parse(line).has_defaults else QUESTIONS


def talk(line: str) -> bytes:
    """The whole conversation, as it is sent."""
    asked = (_NEGOTIATION, *questions(line).values(), {"execute": "quit"})
    return "".join(json.dumps(each) for each in asked).encode()


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


def answers(line: str, said: bytes) -> dict[str, dict[str, Any]] | None:
    """The replies to the questions in what was said from the greeting on; None where they are not all there."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith(b"{")]
    replies = [line for line in lines if "return" in line or "error" in line][1:]
    asked = questions(line)
    if len(replies) < len(asked):
        return None
    return {name: comparable(reply) for name, reply in zip(asked, replies, strict=False)}


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


def record(release: str, program: list[str], *, again: bool) -> None:
    """Record those of the lines that are not recorded yet; all of them `again`."""
    accepted = [row["line"] for row in emulator_line.load(release) if row["status"] == 0 and "stdout" not in row]
    accepted += (DIRECTORY / "machine_lines.txt").read_text(encoding="utf-8").splitlines()
    known = {} if again else {row["line"]: row["answers"] for row in load(release)}

    def ask(line: str) -> tuple[str, dict[str, dict[str, Any]] | None]:
        if line in known and known[line].keys() == questions(line).keys():
            return line, known[line]
        return line, answers(line, emulator_line.converse(program, line, talk(line)).stdout)

    with ThreadPoolExecutor(2) as pool:
        rows = pool.map(ask, accepted)
        found = [json.dumps({"line": line, "answers": replies}) for line, replies in rows if replies is not None]
    path = Path(DIRECTORY / release / "machine_made.jsonl.gz")
    path.write_bytes(gzip.compress(("\n".join(found) + "\n").encode(), 9, mtime=0))
    print(release, len(found), "of", len(accepted))


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != "--again"]
    record(given[0], given[1:], again="--again" in sys.argv[1:])
