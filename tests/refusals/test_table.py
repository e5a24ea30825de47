"""The table of refusals: large enough, and free of what is asked no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.golden import RELEASES
from tests.refusals.asking import CRASH, is_taken
from tests.refusals.comparing import known
from tests.refusals.record import load
from tests.refusals.table import COLD, DOORS, HOT, Asked, asked, questions

if TYPE_CHECKING:
    from tests.refusals.asking import Answer

LEAST = 150
"""How many refusals are asked for at least, at more than one door each."""
ROOMS = {
    "chardev", "cpus", "devices", "drives", "machine", "memory", "monitors", "network", "numa", "objects",
    "option_language", "run_state",
}  # fmt: skip


def test_there_are_enough() -> None:
    answers = load("7.2")
    doors: dict[tuple[str, str, tuple[str, ...]], set[str]] = {}
    for each in asked(*COLD, *HOT):
        if _is_refusal(each, answers[each.key]):
            question = each.question
            doors.setdefault((question.room, question.text, question.after), set()).add(each.door)
    at_several = [question for question, found in doors.items() if len(found) > 1]
    assert len(at_several) >= LEAST
    assert {room for room, _, _ in at_several} == ROOMS


def _is_refusal(each: Asked, answer: Answer) -> bool:
    if answer == CRASH:
        return False
    if each.door in COLD:
        return bool(answer["status"])
    return not is_taken(answer)


def test_known_differences_are_asked() -> None:
    keys = {each.key for each in asked(*DOORS)}
    left_over = {key for listed in known().values() for key in listed} - keys
    assert not left_over, "known.txt lists what is not asked\n" + "\n".join(sorted(left_over))


def test_every_answer_is_recorded() -> None:
    keys = {each.key for each in asked(*COLD, *HOT)}
    for release in RELEASES:
        assert load(release).keys() == keys, f"python -m tests.refusals.record {release}"


def test_questions_are_told_apart() -> None:
    found = [(question.text, question.after) for question in questions()]
    twice = {each for each in found if found.count(each) > 1}
    assert not twice
