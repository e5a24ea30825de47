"""Bringing `known.txt` up to date: `python -m tests.refusals.settle` takes out what is right by now.

With `--new` it also puts in what is answered otherwise and not listed, at the end, for somebody to say why: for new
questions, and for no others.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.golden import RELEASES
from tests.refusals.asking import CRASH
from tests.refusals.comparing import KNOWN, own_answers
from tests.refusals.ours import Fleet, ask_hot, ask_line, ask_serve
from tests.refusals.record import load
from tests.refusals.table import COLD, DOORS, HOT, Asked, asked
from tests.refusals.zygote import Zygote


def differences() -> dict[str, set[str]]:
    """The releases in which each question is answered otherwise, by key."""
    found: dict[str, set[str]] = {}
    with Zygote() as zygote, tempfile.TemporaryDirectory() as folder, Fleet(Path(folder)) as fleet:
        for release in RELEASES:
            ours: dict[str, Any] = {each.key: ask_line(release, each) for each in asked(*COLD)}
            ours |= ask_hot(zygote, release, asked(*HOT))
            ours |= {each.key: ask_serve(release, each) for each in asked("serve")}
            ours |= {each.key: fleet.ask(release, each) for each in asked("fleet")}
            lines = {each.key: Asked(each.question, "line").key for each in asked("serve", "fleet")}
            theirs = {**load(release), **own_answers(release, lines)}
            for key, answer in ours.items():
                if answer != theirs[key] != CRASH:
                    found.setdefault(key, set()).add(release)
    return found


def spelled(releases: set[str], key: str) -> str:
    """A line of the list."""
    return f"{','.join(release for release in RELEASES if release in releases)} {key}"


def settle(*, with_new: bool) -> None:
    """Write the list anew."""
    differ = differences()
    listed: dict[str, set[str]] = {}
    lines: list[str] = []
    for text in KNOWN.read_text(encoding="utf-8").splitlines():
        if not text or text.startswith("#"):
            lines.append(text)
            continue
        before, _, key = text.partition(" ")
        left = set(before.split(",")) & differ.get(key, set())
        listed.setdefault(key, set()).update(before.split(","))
        if left:
            lines.append(spelled(left, key))
    new = [
        spelled(releases, each.key)
        for each in asked(*DOORS)
        if (releases := differ.get(each.key, set()) - listed.get(each.key, set()))
    ]
    if with_new:
        lines += dict.fromkeys(new)
    KNOWN.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{sum(not line.startswith('#') for line in lines if line)} lines are left, {len(set(new))} are new")


if __name__ == "__main__":
    settle(with_new="--new" in sys.argv[1:])
