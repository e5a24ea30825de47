"""A copy of the project with one defect in it, and what is run there."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent.parent
COPIED = ("qmpd", "tests", "scripts", "schemas", "docs", "pyproject.toml", "README.md", "LICENSE")
PATIENCE = 300.0
"""Seconds after which something that is run counts as hung, which is a way to notice."""

MEMORY = 4 << 30
"""Bytes of memory that something which is run may take: a defect may well want all there is."""


class DoesNotApply(Exception):  # noqa: N818 (a defect)
    """The text that a defect replaces is not there, or not once; the text says where."""


@dataclass(frozen=True)
class Defect:
    """What is wrong, and in which part; in `file` the text `old`, which is there once, becomes `new`.

    `tests` are those that have to notice (files, or tests in them, as pytest wants them); `soak` and `fuzz` tell
    whether these are expected to notice, too.
    """

    name: str
    part: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    soak: bool = False
    fuzz: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether something noticed, and how it said so."""

    noticed: bool
    words: str


def planted(defect: Defect, source: str) -> str:
    """The text of the defect's file with the defect in it.

    :raise DoesNotApply: the code is not as it was when the defect was written down.
    """
    count = source.count(defect.old)
    if count != 1:
        raise DoesNotApply(f"{defect.name}: in {defect.file} its text is there {count} times:\n{defect.old}")
    return source.replace(defect.old, defect.new)


@contextmanager
def copy(defect: Defect | None) -> Iterator[Path]:
    """A folder with the project in it, and the defect, if there is one.

    :raise DoesNotApply: the code is not as it was when the defect was written down.
    """
    with tempfile.TemporaryDirectory(prefix="qmpd-defect-") as name:
        folder = Path(name)
        for each in COPIED:
            source = ROOT / each
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, folder / each, symlinks=True, ignore=ignored, copy_function=_link)
            elif source.exists():
                shutil.copy2(source, folder / each)
        if defect is not None:
            path = folder / defect.file
            text = planted(defect, path.read_text(encoding="utf-8"))
            # The copy shares the file with the original.
            path.unlink()
            path.write_text(text, encoding="utf-8")
        yield folder


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def run(folder: Path, *command: str) -> tuple[int | None, str]:
    """Run a program with the copy's modules; its exit status, None where it takes too long, and what it says."""
    path = os.pathsep.join((str(folder), str(folder / "scripts")))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    # Its tests notice by their asserts.
    environment.pop("PYTHONOPTIMIZE", None)
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
        try:
            text, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            text = ""
            return None, text
        finally:
            # A defect may well leave processes behind.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, text


class CannotRun(Exception):  # noqa: N818 (what is named)
    """The tests that are named cannot be run; the text says why."""


def by_tests(folder: Path, tests: tuple[str, ...]) -> Verdict:
    """Whether the tests notice.

    :raise CannotRun: they cannot be run.
    """
    options = ("-q", "-x", "-n0", "-p", "no:cacheprovider", "-p", "no:randomly")
    status, text = run(folder, "-m", "pytest", *options, *tests)
    if status is None or status < 0:
        return Verdict(True, "hung" if status is None else f"killed by signal {-status}")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    if status == 0:
        return Verdict(False, "")
    if failed is None and re.search(r"^\d+ failed", text, re.MULTILINE) and "MemoryError" in text:
        # Not even pytest can go on then.
        return Verdict(True, "MemoryError")
    if status != 1 or failed is None:
        raise CannotRun(text[-2000:])
    return Verdict(True, failed[1].rpartition("::")[2] if "::" in failed[1] else failed[1])


def by_soak(folder: Path, minutes: float, virtual: bool = False) -> Verdict:
    """Whether the soak notices."""
    how = ("--virtual", "--steps", "600") if virtual else ("--minutes", f"{minutes:g}")
    status, text = run(folder, "-m", "endurance.soak", *how, "--vms", "6", "--seed", "1")
    return _verdict(status, text, r"^.*(?:says what it must not|must|should|left at the end|waits for|Error).*$")


def by_fuzz(folder: Path, minutes: float) -> Verdict:
    """Whether the fuzz notices."""
    status, text = run(folder, "-m", "endurance.fuzz", "--minutes", f"{minutes:g}", "--seed", "1")
    return _verdict(status, text, r"(?s)at the end\n(.*?)\n")


def _verdict(status: int | None, text: str, pattern: str) -> Verdict:
    if status == 0:
        return Verdict(False, "")
    if status is None:
        return Verdict(True, "hung")
    found = re.search(pattern, text, re.MULTILINE)
    words = (found[found.re.groups] if found else text.strip().rpartition("\n")[2]).strip()
    return Verdict(True, words[:100])
