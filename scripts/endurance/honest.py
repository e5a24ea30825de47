"""A client of the fuzz that does all as it should, amid those that do not: each of its commands has to be answered."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

from endurance.identities import any_id

if TYPE_CHECKING:
    from random import Random

ASKED = ("query-name", "query-status", "query-version", "query-qmp-schema", "no-such-command", "query-kvm")
EVENT = re.compile(
    rb'\{"timestamp": \{"seconds": \d+, "microseconds": \d{1,6}\}, "event": "[A-Z0-9_]+"(, "data": .*)?\}'
)
NEGOTIATION = '{"execute": "qmp_capabilities", "id": "first"}'


class Honest:
    """What has come of what was asked: `take` is given the bytes."""

    def __init__(self) -> None:
        self._expected: deque[str] = deque(["first"])
        self._rest = b""
        self._greeted = False

    @property
    def answered(self) -> bool:
        """Whether nothing is to come any more."""
        return not self._expected

    def asks(self, identities: list[str]) -> None:
        """Commands with these ids, as they are told, are on their way."""
        self._expected += identities

    def take(self, data: bytes) -> str | None:
        """Look at what has come; what is wrong with it, if something is."""
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if not self._greeted:
                self._greeted = line.startswith(b'{"QMP": ')
                if not self._greeted:
                    return f"it is greeted with {line[:300]!r}"
            elif not EVENT.fullmatch(line):
                what = self._reply(line.decode("latin-1"))
                if what is not None:
                    return what
        return None

    def _reply(self, line: str) -> str | None:
        if not self._expected:
            return f"it gets {line[:300]!r}, and nothing is to come"
        identity = self._expected.popleft()
        identity = '"first"' if identity == "first" else identity
        if line.endswith(f', "id": {identity}}}') or line.startswith(f'{{"id": {identity}, "error": '):
            return None
        return f"it gets {line[:300]!r} as the reply to request {identity}"


def questions(random: Random, number: int, count: int) -> tuple[str, list[str]]:
    """So many commands in one text, and the ids that their replies tell."""
    text, identities = "", []
    for position in range(count):
        sent, told = any_id(random, 1000 * number + position)
        text += f'{{"execute": "{random.choice(ASKED)}", "id": {sent}}}' + random.choice(("", "\n"))
        identities.append(told)
    return text, identities
