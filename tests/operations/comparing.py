"""What of two lines is compared: everything but what differs from one run of real QEMU to the next."""

from __future__ import annotations

import json
import re
from typing import Any

_TIMESTAMP = re.compile(r'"timestamp": \{"seconds": \d+, "microseconds": \d+\}')
_TIMELESS = '"timestamp": T'
_PLAIN = (
    # With this speed a job moves a chunk every quarter of a second, and the recorder looked after about that.
    (
        re.compile(r'"offset": \d+(, (?:"status": "\w+", "paused": \w+, )?"speed": 2097152)'),
        r'"offset": N\1',
    ),
    # 5.2 copies for a tenth of a second at once, and the recorder, which looked after 150 ms or a little more,
    # has seen the second of these pieces or, once, the third (in ten plays on an idle computer: the second).
    (
        re.compile(
            r'"offset": (?:917504|1376256)(?=, "status": "running", "paused": false, "speed": 4194304, .*"backup")'
        ),
        '"offset": N',
    ),
    # Three of the recorded programs ran where no host has a name.
    (
        re.compile(r"address resolution failed for localhost:1: Name or service not known"),
        "Failed to connect to 'localhost:1': Connection refused",
    ),
    (re.compile(r"#block\d+"), "#blockN"),
    (re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"), "YYYY-MM-DD hh:mm:ss"),
    (re.compile(r"\b\d\d\d\d:\d\d:\d\d\.\d\d\d\b"), "hhhh:mm:ss.mmm"),
    (re.compile(r"\b\d\d:\d\d:\d\d\.\d\d\d\b"), "hh:mm:ss.mmm"),
    (re.compile(r'"(thread[-_]id)": \d{2,}'), r'"\1": N'),
)
_VARIED = "varies"
# How often a migration looks at memory again, and how many bytes of it went when and how fast, is a matter of time: of
# passes the first is compared, of figures those that say how large memory and its pages are.
# How many resets real firmware adds to one is a matter of time as well.
_TIMED = re.compile(r'"MIGRATION_PASS", "data": \{"pass": (?!1\})|"reason": "guest-reset"')
_TOLD_FIGURES = (
    '"ram": {', '"total-time": ', "total time: ", "Time (ms): ", '"postcopy-blocktime": ',
    '"status": "active", "completed": ',
)  # fmt: skip
_FIGURE = re.compile(r'(?<!"total)(?<!"page-size)(": )-?[0-9][0-9.eE+-]*(?=[,}])')
# What these begin may be over, or ready, before its beginning is answered.
_BEGINS = ('"detach": true', '"execute": "blockdev-mirror"')
_FIGURE_IN_LIST = re.compile(r"(?<=[\[ ])[0-9]+(?=[,\]])")
# What is written, or read, first once nobody is at the other side any more is a matter of time, too.
_LOST = re.compile(
    r"Unable to write to command: Broken pipe|ram_save_setup failed: Input/output error"
    r"|Unable to read from socket: Connection reset by peer|Channel error: Input/output error"
)
_FIGURE_IN_TEXT = re.compile(r"(?<=[ =])[0-9][0-9.]*(?= [kKMGB]|[ ,\\]|$)")


def plain(line: str, folder: str, port: str = "") -> str:
    """A line with what is this run's own taken out: as the recorder wrote it."""
    line = _TIMESTAMP.sub(_TIMELESS, line).replace(folder, "@DIR@")
    if port:
        line = re.sub(rf"(?<![0-9]){port}(?![0-9])", "@PORT@", line)
    for pattern, replacement in _PLAIN:
        line = pattern.sub(replacement, line)
    return line


def _settled(lines: list[str]) -> list[str]:
    """The lines with the reply that has come right after BLOCK_JOB_READY before that.

    A mirror that has little to copy is ready once a thread has read that little, which may be before its command is
    answered: of forty plays of one scenario in 11.1 it was in eighteen, in 7.2 and 10.0 in one to four of ten.
    """
    found = list(lines)
    for number in range(2, len(found)):
        status, ready, reply = found[number - 2 : number + 1]
        if '"status": "ready"' in status and '"event": "BLOCK_JOB_READY"' in ready and reply == '{"return": {}}':
            found[number - 2 : number + 1] = [reply, status, ready]
    return found


def difference(step: dict[str, Any], came: list[str]) -> bool:
    """Whether the lines that came are others than those of a recorded step."""
    varies = step.get("varies") or []
    if step.get("unfinished"):
        recorded = without_figures(step["recv"])
        return not _same(without_figures(came)[: len(recorded)], recorded, list(varies))
    if varies == "lines":
        return not any(_same(came, lines, []) for lines in (step["recv"], *step.get("also", []))) and not any(
            _sameby_subject(came, lines) for lines in (step["recv"], *step.get("also", []))
        )
    if _same(came, step["recv"], list(varies)):
        return False
    if any(each in step.get("send", "") for each in _BEGINS) and sorted(came) == sorted(step["recv"]):
        return False
    # Of two jobs at work either may go on first, whether or not two recordings show both.
    jobs = {subject for subject in by_subject(step["recv"]) if subject}
    return len(jobs) < 2 or not _sameby_subject(came, step["recv"])


def _same(came: list[str], recorded: list[str], varies: list[str]) -> bool:
    # What tests/golden takes out of its lines, these have too.
    # A greeting that came late is among the lines of some runs.
    recorded = [plain(line, "@DIR@") for line in recorded if not line.startswith('{"QMP"')]
    came, recorded = _settled(without_figures(came)), _settled(without_figures(recorded))
    if came == recorded:
        return True
    return len(came) == len(recorded) and all(
        one == other or _parsed(one, number, varies) == _parsed(other, number, varies)
        for number, (one, other) in enumerate(zip(came, recorded, strict=True))
    )


def without_figures(lines: list[str]) -> list[str]:
    """The lines without what is a matter of time in a migration."""
    return [_without_figures(_LOST.sub("lost", line)) for line in lines if not _TIMED.search(line)]


def _without_figures(line: str) -> str:
    if not any(words in line for words in _TOLD_FIGURES):
        return line
    if '"return": {' not in line:
        return _FIGURE_IN_TEXT.sub("N", line)
    return _FIGURE_IN_LIST.sub("N", _FIGURE.sub(r"\1N", line))


def _parsed(line: str, number: int, varies: list[str]) -> Any:
    """The line, its varying members replaced; the order of members stays to be compared."""
    paths = [path.split(".")[1:] for path in varies if path.split(".")[0] == str(number)]
    if not paths:
        return line
    try:
        value = json.loads(line.replace(_TIMELESS, '"timestamp": 0').replace(": N", ": 0"))
    except ValueError:
        return line
    for path in paths:
        _vary(value, path)
    return json.dumps(value)


def _vary(value: Any, path: list[str]) -> None:
    for key in path[:-1]:
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            return
    last: Any = path[-1]
    if isinstance(value, list):
        last = int(last)
    try:
        value[last] = _VARIED
    except (KeyError, IndexError, TypeError):
        return


def _sameby_subject(came: list[str], recorded: list[str]) -> bool:
    """Whether the same lines came, each job's in the same order: which of two goes on first is not fixed."""
    return by_subject(came) == by_subject(recorded)


def by_subject(lines: list[str]) -> dict[str, list[str]]:
    """Lines by the job that they tell of, each job's in their order."""
    found: dict[str, list[str]] = {}
    for line in lines:
        match = re.search(r'"data": \{.*"(?:id|device)": "([^"]*)"', line)
        found.setdefault(match[1] if match else "", []).append(plain(line, "@DIR@"))
    return found
