"""What the program's command line takes, and what it prints about itself, asked by running the program.

QEMU looks for options that it does not know from left to right before it does anything, so a line that ends in two
unknown options never starts a machine: which of the two is complained about tells whether the option in front of them
takes an argument.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from qmpd.capture.choices import BARE, choices
from qmpd.capture.client import PATIENCE, CaptureError
from qmpd.capture.lines import spell
from qmpd.qapi.command_line import LISTS, PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Run = Callable[[list[str]], subprocess.CompletedProcess[str]]

# Options that no help text mentions and no query lists, in some release.
_UNMENTIONED = ("M", "qtest", "qtest-log", "no-kvm", "old-param", "xen-attach", "semihosting", "prom-env")
_MENTIONED = re.compile(r"^--?([\w][\w-]*)(?:(?:/| or )-([\w-]+))?", re.MULTILINE)
_OBJECT_TYPES = re.compile(r"^  (\S+)$", re.MULTILINE)
_MISSING = re.compile(r"warning: TCG doesn't support requested feature: (.*)")
_UNKNOWN = ("-no-such-option", "-no-such-option-either")
_USAGE = re.compile(r"^(usage: )(\S+)", re.MULTILINE)


def command_line(command: str, groups: Iterable[str], report: Callable[[str], None]) -> list[bytes]:
    """The lines of command-line.jsonl.gz.

    `groups` are the names that query-command-line-options gives; `report` is told what could not be found out.
    """
    argv = shlex.split(command)

    def run(options: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*argv, *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=PATIENCE,
            check=False,
        )

    try:
        return _ask(run, groups)
    except (CaptureError, OSError, subprocess.SubprocessError) as error:
        report(f"the command line cannot be asked about: {error}")
        return []


def _ask(run: Run, groups: Iterable[str]) -> list[bytes]:
    lines = []
    texts: dict[tuple[str, ...], str] = {}
    for words in LISTS:
        ended = run(list(words))
        if not ended.stdout and words in BARE and ended.returncode == 0:
            # 5.2 lists its events where errors go.
            texts[words] = ended.stderr
        if ended.stdout:
            texts[words] = ended.stdout
            text = _USAGE.sub(rf"\1{PROGRAM}", ended.stdout)
            said = {"choice": BARE[words]} if words in BARE else {"text": text}
            lines.append(spell({"list": list(words), "status": ended.returncode, **said}))
    lines += _object_options(run, texts.get(("-object", "help"), ""))
    lines += choices(texts)
    missing = _missing_features(run, texts.get(("-cpu", "help"), ""))
    if missing:
        lines.append(spell({"features": missing}))
    mentioned = [name for found in _MENTIONED.findall(texts.get(("-help",), "")) for name in found if name]
    names = dict.fromkeys([*mentioned, *_UNMENTIONED, *groups])
    with ThreadPoolExecutor(2) as pool:
        takes = pool.map(lambda name: _takes_argument(run, name), names)
    lines += [
        spell({"option": name, "argument": argument})
        for name, argument in zip(names, takes, strict=True)
        if argument is not None
    ]
    return lines


def _object_options(run: Run, listed: str) -> list[bytes]:
    """What is printed of each type of object; no query tells what a type has before there is an object of it."""
    lines = []
    for kind in _OBJECT_TYPES.findall(listed):
        words = ["-object", f"{kind},help"]
        ended = run(words)
        if ended.stdout:
            lines.append(spell({"list": words, "status": ended.returncode, "text": ended.stdout}))
    return lines


def _missing_features(run: Run, listed: str) -> list[str]:
    """The features of CPUs that the emulator lacks: a CPU that is to have all of them is refused, with each by name."""
    flags = listed.partition("CPUID flags:\n")[2].split()
    if not flags:
        return []
    wanted = ",".join(f"+{name}" for name in flags)
    said = run(["-nodefaults", "-display", "none", "-S", "-accel", "tcg", "-cpu", f"max,{wanted},enforce"]).stderr
    return _MISSING.findall(said)


def _takes_argument(run: Run, name: str) -> bool | None:
    """Whether an option takes an argument; None where there is no such option.

    :raise CaptureError: the program does not say.
    """
    said = run([f"-{name}", *_UNKNOWN]).stderr
    for word, answer in ((f"-{name}", None), (_UNKNOWN[0], False), (_UNKNOWN[1], True)):
        if f": {word}: invalid option" in said:
            return answer
    raise CaptureError(f"-{name}: {said.strip()}")
