"""Asking a program: real QEMU, or qmpd in its place.

An answer is plain data:

- at the doors of a command line `{"status", "stderr": [line, ...]}`;
- at `qmp` `{"class", "desc"}`, or `{}` where the command returns;
- at `human` `{"said": text}`;
- `{"crash": true}` where QEMU ends by a fault of its own.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from tests.golden import emulator_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.refusals.table import Asked

Answer = dict[str, Any]
CRASH: Answer = {"crash": True}
ALWAYS = emulator_line.ALWAYS
PATIENCE = 30.0
_TOGETHER = 100


class Machine(Protocol):
    """A machine that runs, with a monitor on its standard input and output."""

    stdin: IO[bytes]
    stdout: IO[bytes]

    def end(self) -> None:
        """End it, however it is."""


Starter = Callable[[list[str]], Machine]


class _Process:
    """A program that runs in a process of its own."""

    def __init__(self, argv: list[str]) -> None:
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.stdin, self.stdout = self._process.stdin, self._process.stdout

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def real(program: list[str]) -> Starter:
    """Starts machines of a real QEMU."""
    return lambda options: _Process([*program, *options])


def is_taken(answer: Answer) -> bool:
    """Whether an answer at `qmp` or `human` is no refusal: there is nothing to say, or nothing but a warning."""
    lines = answer.get("said", "").splitlines() if "said" in answer else list(answer)
    return all(line == "OK" or line.startswith("warning: ") for line in lines)


class Gone(Exception):  # noqa: N818 - the name says what happened
    """The machine has ended."""


class Talk:
    """A session with a machine, negotiated; a context manager that ends the machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        try:
            self._line()
            self.ask("qmp_capabilities", {})
        except BaseException:
            machine.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.end()

    def _line(self) -> dict[str, Any]:
        line = self._machine.stdout.readline()
        if not line:
            raise Gone
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The reply to a command."""
        try:
            self._machine.stdin.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            self._machine.stdin.flush()
        except BrokenPipeError:
            raise Gone from None
        while True:
            message = self._line()
            if "event" not in message:
                return message


def ask_hot(start: Starter, group: list[Asked]) -> list[Answer]:
    """What a machine answers to these, which come after the same options.

    What it does not refuse is asked of a machine of its own.
    """
    answers: list[Answer] = []
    options = [*ALWAYS, *group[0].question.after, "-qmp", "stdio"] if group else []
    left = list(group)
    while left:
        try:
            with Talk(start(options)) as talk:
                while left:
                    answer = _ask(talk, left[0])
                    left.pop(0)
                    answers.append(answer)
                    if is_taken(answer):
                        break
        except Gone:
            left.pop(0)
            answers.append(CRASH)
    return answers


def _ask(talk: Talk, asked: Asked) -> Answer:
    if asked.door == "qmp":
        reply = talk.ask(asked.form["execute"], asked.form["arguments"])
        return {"class": reply["error"]["class"], "desc": reply["error"]["desc"]} if "error" in reply else {}
    reply = talk.ask("human-monitor-command", {"command-line": asked.form})
    return {"said": reply["return"]} if "return" in reply else {"said": "", "desc": reply["error"]["desc"]}


def groups(asked: Iterable[Asked]) -> list[list[Asked]]:
    """The same, those that a single machine can be asked together, in portions."""
    found: dict[tuple[str, ...], list[Asked]] = {}
    for each in asked:
        found.setdefault(each.question.after, []).append(each)
    return [group[at : at + _TOGETHER] for group in found.values() for at in range(0, len(group), _TOGETHER)]


def ask_all_hot(start: Starter, asked: Iterable[Asked]) -> dict[str, Answer]:
    """The answers of machines that run, by key."""
    together = groups(asked)
    with ThreadPoolExecutor(2) as pool:
        answered = pool.map(lambda group: ask_hot(start, group), together)
        return {
            each.key: answer
            for group, answers in zip(together, answered, strict=True)
            for each, answer in zip(group, answers, strict=True)
        }


def cold_options(asked: Asked, stack: ExitStack, root: str = "") -> tuple[list[str], str]:
    """The options that ask it, and the path of the file that they name, if any."""
    if asked.door != "config":
        return [*asked.question.after, *asked.form], ""
    path = stack.enter_context(emulator_line.config_file(asked.form.encode(), root))
    return [*asked.question.after, "-readconfig", path], path


def tidy(status: int, said: Iterable[str], path: str) -> Answer:
    """An answer to a command line, without what is true of this run or program only."""
    if status < 0 or status == 128 + 6:
        return CRASH
    kept = [line for line in said if not (line.startswith("qemu: module ") and "not found" in line)]
    return {"status": status, "stderr": [line.replace(path, "CONFIG") if path else line for line in kept]}


def ask_real_cold(program: list[str], asked: Asked) -> Answer:
    """What a real QEMU makes of a command line."""
    root = program[1] if program[0] == "chroot" else ""
    with ExitStack() as stack:
        options, path = cold_options(asked, stack, root)
        argv = [*program, *ALWAYS, "-qmp", "stdio", *options]
        talk = b'{"execute": "qmp_capabilities"}{"execute": "quit"}'
        ended = subprocess.run(argv, input=talk, capture_output=True, timeout=PATIENCE, check=False)
        return tidy(ended.returncode, ended.stderr.decode("utf-8", "surrogateescape").splitlines(), path)


def ask_real(program: list[str], asked: list[Asked]) -> dict[str, Answer]:
    """What a real QEMU answers to all of these, by key."""
    cold = [each for each in asked if each.door not in ("qmp", "human")]
    with ThreadPoolExecutor(2) as pool:
        answers = dict(
            zip([each.key for each in cold], pool.map(lambda each: ask_real_cold(program, each), cold), strict=True)
        )
    hot = [each for each in asked if each.door in ("qmp", "human")]
    return answers | ask_all_hot(real(program), hot)
