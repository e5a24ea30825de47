"""Asking the reference machines, and writing down what they answer.

A reference machine is asked three times: as it is, once more (what differs then is true of one process only and becomes
zeros), and with another size (what differs then depends on the size and gets a marker, see `qmpd.qapi.captured`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from qmpd.capture.client import Gone, Outcome, Program
from qmpd.capture.lines import line, spell
from qmpd.capture.questions import Question
from qmpd.capture.reference import MEMORY, NO_MACHINE, OPTIONS, OTHER_CPUS, OTHER_MEMORY, varied
from qmpd.qapi.captured import FOR_EACH, LOADING_MODULES, replace_markers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Report = Callable[[str], None]
    Asked = tuple[str, dict[str, Any]]
    # Asks several commands; None stands for what has no answer.
    Ask = Callable[[list[Asked]], list[Outcome | None]]

_HEX = re.compile(r"(0x[0-9a-f]{16})")
_WORD = re.compile(rb"\w+")
UNSAID: Any = object()
"""No value: there is none that could be written down."""


def asking(command: str, options: list[str], report: Report) -> Ask:
    """A function that asks the program that `command` starts with these options, as `ask_carefully` does."""
    return lambda asked: ask_carefully(command, options, asked, report)


def ask_carefully(command: str, options: list[str], asked: list[Asked], report: Report) -> list[Outcome | None]:
    """Ask a program; what ends it is tried on a new one of its own, and given up (None) where that ends too."""
    outcomes: list[Outcome | None] = []
    program = Program(command, options)
    try:
        for name, arguments in asked:
            try:
                outcomes.append(program.client.ask(name, arguments))
            except Gone:
                program.close()
                program = Program(command, options)
                try:
                    outcomes.append(program.client.ask(name, arguments))
                except Gone:
                    report(f"{name} {spell(arguments).decode()} ends the program")
                    outcomes.append(None)
                    program.close()
                    program = Program(command, options)
    finally:
        program.close()
    return outcomes


def answers(
    command: str, machines: Iterable[str], questions: list[Question], report: Report, step: Callable[[str], None]
) -> list[bytes]:
    """The lines of the file of answers (`qmpd.qapi.captured.Answers`).

    :raise CaptureError: the program does not start.
    """
    replies: dict[str, list[bytes | None]] = {}
    for machine in machines:
        step(f"questions to machine {machine}")
        ask = asking(command, OPTIONS[machine], report)
        asked = [(each.command, each.arguments) for each in questions]
        known = [_steady(*pair) for pair in zip(ask(asked), ask(asked), strict=True)]
        if machine != NO_MACHINE:
            other = asking(command, varied(machine, OTHER_MEMORY, OTHER_CPUS), report)(asked)
            known = [_sized(*pair) for pair in zip(known, other, strict=True)]
        replies[machine] = echoing(ask, questions, known)
    return [*lines(questions, replies), *with_modules(asking(command, OPTIONS[NO_MACHINE], report), questions)]


def with_modules(ask: Ask, questions: list[Question]) -> Iterator[bytes]:
    """The lines for what is answered otherwise once the program has loaded all its modules."""
    asked: list[Asked] = [(each.command, each.arguments) for each in questions if not each.strangers]
    before = ask(asked)
    after = ask([(LOADING_MODULES, {}), *asked])[1:]
    again = ask([(LOADING_MODULES, {}), *asked])[1:]
    for (name, arguments), first, second, third in zip(asked, before, after, again, strict=True):
        if first is None or second is None or third is None or first.reply == second.reply:
            continue
        reply = _steady(second, third)
        if reply is not None and reply != _steady(first, second):
            yield line({"execute": name, **({"arguments": arguments} if arguments else {}), "modules": True}, reply)


def echoing(ask: Ask, questions: list[Question], replies: list[bytes | None]) -> list[bytes | None]:
    """The replies, with markers in those to strange arguments where they repeat them."""
    others = iter(ask([(each.command, each.other) for each in questions if each.strangers]))
    return [
        _echoing(each, reply, next(others)) if each.strangers else reply
        for each, reply in zip(questions, replies, strict=True)
    ]


def lines(questions: list[Question], replies: dict[str, list[bytes | None]]) -> Iterator[bytes]:
    """The lines for the replies of each machine, in the order of the questions.

    What is the same on all machines comes once, the answer to strange arguments once for each command.
    """
    otherwise: dict[str, dict[str, set[bytes | None]]] = {}
    for each, *said in zip(questions, *replies.values(), strict=True):
        if each.strangers:
            for machine, reply in zip(replies, said, strict=True):
                otherwise.setdefault(each.command, {}).setdefault(machine, set()).add(reply)
            continue
        head: dict[str, Any] = {"execute": each.command}
        if each.arguments:
            head["arguments"] = each.arguments
        yield from _by_machine(head, dict(zip(replies, said, strict=True)))
    for command, machines in otherwise.items():
        # Only where all strange arguments are answered alike is that the answer to any others.
        alike = {machine: next(iter(said)) if len(said) == 1 else None for machine, said in machines.items()}
        yield from _by_machine({"execute": command, "otherwise": True}, alike)


def _by_machine(head: dict[str, Any], said: dict[str, bytes | None]) -> Iterator[bytes]:
    first, *rest = said.values()
    if first is not None and all(reply == first for reply in rest):
        yield line(head, first)
        return
    for machine, reply in said.items():
        if reply is not None:
            yield line({**head, "machine": machine}, reply)


def _steady(once: Outcome | None, again: Outcome | None) -> bytes | None:
    """The reply, with zeros for the words that are others each time."""
    if once is None or again is None:
        return None
    first, second = once.reply, again.reply
    if first == second:
        return first
    words, others = _WORD.findall(first), _WORD.findall(second)
    if len(words) != len(others):
        return None
    differing = {word for word, other in zip(words, others, strict=True) if word != other}
    return _WORD.sub(lambda match: _zeros(match[0]) if match[0] in differing else match[0], first)


def _zeros(word: bytes) -> bytes:
    return b"0" if word.isdigit() else re.sub(rb"[1-9a-f]", b"0", word)


def _sized(reply: bytes | None, other: Outcome | None) -> bytes | None:
    """The reply, with markers where the other size is answered something else that a marker can express."""
    if reply is None or other is None or reply == other.reply or other.value is None:
        return reply
    message = orjson.loads(reply)
    if "return" not in message or spell(message) != reply:
        return reply
    marked = mark(message["return"], other.result)
    return reply if marked is UNSAID else spell({"return": marked})


def mark(value: Any, other: Any) -> Any:
    """The value with markers where the two differ; `UNSAID` where markers cannot express it."""
    if value == other and type(value) is type(other):
        return value
    if type(value) is not type(other):
        return UNSAID
    if isinstance(value, int) and (value, other) == (MEMORY << 20, OTHER_MEMORY << 20):
        return "«memory»"
    if isinstance(value, int) and (value, other) == (1, OTHER_CPUS):
        return "«cpus»"
    if isinstance(value, str):
        return _mark_text(value, other)
    if isinstance(value, dict) and list(value) == list(other):
        marked = {name: mark(member, other[name]) for name, member in value.items()}
        return UNSAID if UNSAID in marked.values() else marked
    if isinstance(value, list) and (len(value), len(other)) == (1, OTHER_CPUS):
        element = _count(other)
        return [FOR_EACH.format("cpus"), element] if replace_markers([element], {"index": 0}) == value else UNSAID
    if isinstance(value, list) and len(value) == len(other):
        listed = [mark(*pair) for pair in zip(value, other, strict=True)]
        return UNSAID if UNSAID in listed else listed
    return UNSAID


def _mark_text(text: str, other: str) -> Any:
    """The text with markers for hexadecimal numbers that are as much larger in the other as its memory is."""
    words, others = _HEX.split(text), _HEX.split(other)
    if len(words) != len(others):
        return UNSAID
    for index, (word, its) in enumerate(zip(words, others, strict=True)):
        if word == its or (_HEX.fullmatch(word) and not int(word, 16)):
            continue  # zeros: an address that is another one each time
        if not _HEX.fullmatch(word) or int(its, 16) - int(word, 16) != (OTHER_MEMORY - MEMORY) << 20:
            return UNSAID
        words[index] = f"«memory + {int(word, 16) - (MEMORY << 20)} as hex»"
    return "".join(words)


def _count(values: list[Any]) -> Any:
    """What all of them are, with a marker where each has its own number in the list."""
    first = values[0]
    if all(value == first and type(value) is type(first) for value in values):
        return first
    if values == list(range(len(values))):
        return "«index»"
    if values == [str(index) for index in range(len(values))]:
        return "«index as text»"
    if all(isinstance(value, dict) and list(value) == list(first) for value in values):
        return {name: _count([value[name] for value in values]) for name in first}
    return UNSAID


def _echoing(question: Question, reply: bytes | None, other: Outcome | None) -> bytes | None:
    """The reply to strange arguments, with markers where it repeats them; None where it depends on them otherwise."""
    if reply is None or other is None or reply == other.reply:
        return reply
    if other.value is not None or b'"error"' not in reply[:10]:
        return None
    error = orjson.loads(reply)["error"]
    text, other_text = error["desc"], other.description
    for name in question.strangers:
        for arguments, said in ((question.arguments, text), (question.other, other_text)):
            marked = said.replace(str(arguments[name]), f"«{name}»")
            if arguments is question.arguments:
                text = marked
            else:
                other_text = marked
    if text != other_text or error["class"] != other.error_class:
        return None
    return spell({"error": {"class": error["class"], "desc": text}})
