"""The questions, and their forms at the doors.

A file of `rooms/` has a question a line, as an option on QEMU's command line:

    -chardev ringbuf,id=c0,size=5

From that follow the forms at all the doors: `line` (the option itself), `json` (the same with a JSON object, where the
option takes one), `config` (a section of a file for -readconfig), `qmp` and `human` (the command for a machine that
runs), `serve` (`qmpd serve`), `fleet` (the option of a machine that a fleet's control socket creates).  Lines below it
that are indented say more:

    -chardev null,id=c0
        after -chardev null,id=c0           options that the machine has before, as many as needed
        qmp chardev-add {"id": "c0", ...}   the command, where another one does not follow from the option
        human chardev-add null,id=c0        likewise
        not qmp human                       doors that cannot ask it

A question that no option asks begins with `qmp COMMAND [ARGUMENTS]` or `human LINE`.  Lines that begin with `#` are
for the reader.
"""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.refusals.forms import command_of, human_of, json_of, section_of

ROOMS = Path(__file__).parent / "rooms"
COLD = ("line", "json", "config")
"""Doors at which a whole command line is asked."""
HOT = ("qmp", "human")
"""Doors of a machine that runs."""
OWN = ("serve", "fleet")
"""Doors that only qmpd has; they say what QEMU says to `line`."""
DOORS = (*COLD, *HOT, *OWN)
_SERVE = frozenset((
    "machine", "M", "m", "smp", "name", "uuid", "device", "S", "preconfig", "incoming", "no-reboot", "no-shutdown",
    "action", "watchdog-action", "nodefaults", "accel", "cpu",
))  # fmt: skip


class Question(NamedTuple):
    """One question: where it stands, the options before it, and its form at each door that can ask it.

    The form at `line` and `json` is `[option, value]`, at `config` a text, at `qmp` `{"execute", "arguments"}`, at
    `human` a line, at `serve` and `fleet` options.
    """

    room: str
    text: str
    after: tuple[str, ...]
    forms: dict[str, Any]


class Asked(NamedTuple):
    """One question at one door."""

    question: Question
    door: str

    @property
    def form(self) -> Any:
        """What is asked."""
        return self.question.forms[self.door]

    @property
    def key(self) -> str:
        """What names it, in recordings and lists: all that the answer depends on."""
        form = self.form if self.door == "human" else json.dumps(self.form, ensure_ascii=False)
        return f"{self.door} | {shlex.join(self.question.after)} | {form}"


def read(path: Path) -> list[Question]:
    """The questions of a room.

    :raise ValueError: a line is none that the module's page tells of.
    """
    blocks: list[list[str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace():
            blocks[-1].append(line.strip())
        else:
            blocks.append([line])
    return [_question(path.stem, block) for block in blocks]


def _question(room: str, block: list[str]) -> Question:
    text, *details = block
    after: list[str] = []
    forms = _forms(text)
    for detail in details:
        word, _, rest = detail.partition(" ")
        if word == "after":
            after += shlex.split(rest)
        elif word == "not":
            for door in rest.split():
                forms.pop(door, None)
        elif word in HOT:
            forms.update(_forms(detail))
        else:
            raise ValueError(f"{room}: {detail}: expected 'after', 'qmp', 'human' or 'not'")
    if forms.get("serve") and any(word[1:] not in _SERVE for word in after if word.startswith("-")):
        for door in OWN:
            forms.pop(door, None)
    return Question(room, text, tuple(after), {door: forms[door] for door in DOORS if door in forms})


def _forms(text: str) -> dict[str, Any]:
    word, _, rest = text.partition(" ")
    if word == "qmp":
        name, _, arguments = rest.partition(" ")
        return {"qmp": {"execute": name, "arguments": json.loads(arguments or "{}")}}
    if word == "human":
        return {"human": rest}
    option, *value = shlex.split(text)
    if not option.startswith("-") or len(value) > 1:
        raise ValueError(f"{text}: expected an option, 'qmp' or 'human'")
    name, given = option[1:], value[0] if value else ""
    own = [option, *value] if name in _SERVE else None
    found = {
        "line": [option, *value],
        "json": json_of(name, given),
        "config": section_of(name, given),
        "qmp": command_of(name, given),
        "human": human_of(name, given),
        "serve": own,
        "fleet": own,
    }
    return {door: form for door, form in found.items() if form is not None}


@cache
def questions() -> tuple[Question, ...]:
    """All questions, room by room."""
    return tuple(question for path in sorted(ROOMS.glob("*.txt")) for question in read(path))


def asked(*doors: str) -> list[Asked]:
    """All questions at these doors."""
    return [Asked(question, door) for question in questions() for door in doors if door in question.forms]
