"""Comparing answers with real QEMU's, and what is known to differ."""

from __future__ import annotations

import errno
import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.golden import RELEASES
from tests.refusals.asking import CRASH
from tests.refusals.record import load

if TYPE_CHECKING:
    from collections.abc import Mapping

KNOWN = Path(__file__).parent / "known.txt"
_THEIRS = "qemu-system-x86_64: "


@cache
def known() -> dict[str, frozenset[str]]:
    """The keys of what is known to be answered otherwise, by release."""
    found: dict[str, set[str]] = {release: set() for release in RELEASES}
    for line in KNOWN.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            releases, _, key = line.partition(" ")
            for release in releases.split(","):
                found[release].add(key)
    return {release: frozenset(keys) for release, keys in found.items()}


def compare(release: str, answers: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """See that each answer is real QEMU's, but for those that are known not to be; gives a line for the report.

    Where real QEMU ends by a fault of its own nothing is compared, nor where only root is let, as the recordings were.
    """
    left_out = known()[release]
    differences, no_longer, right, forbidden, crashes = [], [], 0, 0, 0
    for key, answer in answers.items():
        want = theirs.get(key)
        assert want is not None, f"{key}\n    is not recorded: python -m tests.refusals.record {release}"
        if want == CRASH:
            crashes += 1
        elif answer == want:
            right += 1
            if key in left_out:
                no_longer.append(key)
        elif _is_forbidden(answer):
            forbidden += 1
        elif key not in left_out:
            differences.append(f"{key}\n    got  {_spelled(answer)}\n    want {_spelled(want)}")
    assert not differences, f"{release}: {len(differences)} answers differ\n" + "\n".join(differences)
    assert not no_longer, f"{release}: these are right now, and to be taken out of known.txt\n" + "\n".join(no_longer)
    without = f" ({forbidden} are for root alone)" if forbidden else ""
    faults = f" ({crashes} end the real one by a fault of its own)" if crashes else ""
    return f"refusals, {release}: {right} of {len(answers)} answers are real QEMU's{faults}{without}"


def _is_forbidden(answer: Any) -> bool:
    """Whether the system has kept a file or a port from somebody who is not root."""
    return os.geteuid() != 0 and os.strerror(errno.EACCES) in _spelled(answer)


def _spelled(answer: Any) -> str:
    return json.dumps(answer, ensure_ascii=False)


def first_error(answer: Mapping[str, Any]) -> str | None:
    """The sentence with which a command line is refused; None where it is taken."""
    said = [line.removeprefix(_THEIRS) for line in answer.get("stderr", ()) if line.startswith(_THEIRS)]
    errors = [line for line in said if "warning: " not in line]
    return errors[0] if answer.get("status") and errors else None


def own_answers(release: str, keys: Mapping[str, str]) -> dict[str, Any]:
    """What qmpd's own doors are to say: what the command line says; `keys` has each one's key on the command line."""
    recorded = load(release)
    return {key: CRASH if recorded[line] == CRASH else first_error(recorded[line]) or "" for key, line in keys.items()}
