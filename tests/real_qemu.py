"""Real QEMU programs, where there are any, to compare with.

`qemu-system-x86_64` on the PATH counts, and so does each folder below `$QEMU_ORACLES` (`~/.cache/qemu-oracles` where
that is not set) that holds a whole Debian release with QEMU in it, which takes root to change into. What is not there
is skipped.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

PROGRAM = "qemu-system-x86_64"
# Enough to keep both sides busy, little enough for a pipe to hold.
_BATCH = 20


def _candidates() -> list[list[str]]:
    found = [[path]] if (path := shutil.which(PROGRAM)) else []
    if os.geteuid() == 0:
        home = Path(os.environ.get("QEMU_ORACLES", "~/.cache/qemu-oracles")).expanduser()
        found += [["chroot", str(root.parents[2]), PROGRAM] for root in sorted(home.glob(f"*/usr/bin/{PROGRAM}"))]
    return found


@functools.cache
def programs() -> dict[str, list[str]]:
    """The command line that starts QEMU of each release that is present: `{"7.2": ["qemu-system-x86_64"], ...}`."""
    found: dict[str, list[str]] = {}
    for command in _candidates():
        text = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False).stdout
        if version := re.search(r"version (\d+\.\d+)", text):
            found.setdefault(version[1], command)
    return found


class RealQemu:
    """One running QEMU without a machine, negotiated; a context manager that ends it."""

    def __init__(self, release: str) -> None:
        self._process = subprocess.Popen(
            [*programs()[release], "-machine", "none", "-display", "none", "-nodefaults", "-qmp", "stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._line()
        self.ask("qmp_capabilities", {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "QEMU has ended"
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, command: str, arguments: dict[str, Any]) -> str | None:
        """The text of the error that a command gives; None where it returns."""
        return self.ask_all([(command, arguments)])[0]

    def ask_all(self, questions: Iterable[tuple[str, dict[str, Any]]]) -> list[str | None]:
        """The same for several commands."""
        assert self._process.stdin is not None
        rest, answers = list(questions), []
        while rest:
            batch, rest = rest[:_BATCH], rest[_BATCH:]
            lines = [json.dumps({"execute": command, "arguments": arguments}) for command, arguments in batch]
            self._process.stdin.write("\n".join(lines).encode() + b"\n")
            self._process.stdin.flush()
            left = len(batch)
            while left:
                message = self._line()
                if "event" not in message:
                    left -= 1
                    answers.append(message.get("error", {}).get("desc"))
        return answers
