"""Command lines of QEMU's whole range of options, what real QEMU made of them, and the program that records them.

`python -m tests.golden.emulator_line RELEASE PROGRAM...` runs PROGRAM with each line of `emulator_lines.txt` and writes
`RELEASE/emulator_line.jsonl.gz`, a line each: `{"line", "status", "stderr", "stdout"?}`; what goes to standard output
is kept where it is a list that was asked for.  Complaints about modules that the recorded program was not installed
with are left out.  A line that begins with `<` has a text there: it is in the file that CONFIG stands for, or else open
as descriptor 90.

`emulator_lines_left_out.txt` holds the lines that qmpd does not answer as QEMU does, each behind its release, and why.
PROGRAM may be `chroot FOLDER PROGRAM`, which is given its files there.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.golden import DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterator

RELEASES = ("7.2", "10.0")
LINES = (DIRECTORY / "emulator_lines.txt").read_text(encoding="utf-8").splitlines()
ALWAYS = ("-nodefaults", "-display", "none", "-S")
"""What stands in front of each line, but for those that begin with `DEFAULTS`: there it is not `-nodefaults`."""
_DEFAULTS = "DEFAULTS"
DESCRIPTOR = 90
_TALK = b'{"execute": "qmp_capabilities"}{"execute": "quit"}'
_CONFIG = "CONFIG"
_numbers = itertools.count()


class Line(NamedTuple):
    """A line taken apart: its text, if any, and its options."""

    text: bytes | None
    options: list[str]
    front: tuple[str, ...] = ALWAYS

    @property
    def has_defaults(self) -> bool:
        """Whether the machine has what it has by default."""
        return self.front is not ALWAYS

    @property
    def has_file(self) -> bool:
        """Whether the text is for a file."""
        return _CONFIG in self.options

    def with_file(self, path: str) -> list[str]:
        """The options, with a path for the file."""
        return [path if option == _CONFIG else option for option in self.options]


def parse(line: str) -> Line:
    """Take a line apart."""
    words = shlex.split(line)
    if words[:1] == [_DEFAULTS]:
        return Line(None, words[1:], ALWAYS[1:])
    if not words or not words[0].startswith("<"):
        return Line(None, words)
    return Line(words[0][1:].replace("\\n", "\n").encode(), words[1:])


@contextmanager
def config_file(text: bytes, root: str = "") -> Iterator[str]:
    """A file with this text below a root, as it is called there."""
    path = f"/tmp/qmpd-{os.getpid()}-{next(_numbers)}.cfg"
    whole = Path(root + path)
    whole.write_bytes(text)
    try:
        yield path
    finally:
        whole.unlink()


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


def run(program: list[str], line: str) -> dict[str, Any]:
    """What the program makes of a line."""
    ended = converse(program, line, _TALK)
    said = ended.stderr.decode("utf-8", "surrogateescape").splitlines()
    said = [text for text in said if not (text.startswith("qemu: module ") and "not found" in text)]
    row: dict[str, Any] = {"line": line, "status": ended.returncode, "stderr": said}
    listed = ended.stdout.decode("utf-8", "surrogateescape")
    if listed and '"QMP"' not in listed:
        row["stdout"] = listed
    return row


def converse(program: list[str], line: str, said: bytes) -> subprocess.CompletedProcess[bytes]:
    """How the program ends and what it says where this is said to its monitor, its configuration file called CONFIG."""
    parsed = parse(line)
    argv = [*program, *parsed.front, "-qmp", "stdio"]
    if parsed.text is not None and parsed.has_file:
        root = program[1] if program[0] == "chroot" else ""
        with config_file(parsed.text, root) as path:
            ended = _run([*argv, *parsed.with_file(path)], said)
        ended.stderr = ended.stderr.replace(path.encode(), _CONFIG.encode())
        return ended
    if parsed.text is None:
        return _run([*argv, *parsed.options], said)
    number = os.memfd_create("line")
    try:
        os.write(number, parsed.text)
        opened = f"exec {DESCRIPTOR}</proc/{os.getpid()}/fd/{number}; exec \"$@\""
        return _run(["bash", "-c", opened, "bash", *argv, *parsed.options], said)
    finally:
        os.close(number)


def _run(argv: list[str], said: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(argv, input=said, capture_output=True, timeout=30, check=False)


def record(release: str, program: list[str]) -> None:
    """Record all of the lines."""
    with ThreadPoolExecutor(2) as pool:
        rows = [json.dumps(row) for row in pool.map(lambda line: run(program, line), LINES)]
    path = Path(DIRECTORY / release / "emulator_line.jsonl.gz")
    path.write_bytes(gzip.compress(("\n".join(rows) + "\n").encode(), 9, mtime=0))
    print(release, len(rows))


if __name__ == "__main__":
    record(sys.argv[1], sys.argv[2:])
