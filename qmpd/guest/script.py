"""What a guest does by itself, as a file says: what it prints and when, what it answers to what is typed, and so on.

The file is TOML; `schemas/guest-script.json` is the JSON Schema of what is in it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qmpd.machine.blueprint import GuestAction

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
_TIME = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)?")


@dataclass(frozen=True, slots=True)
class Step:
    """Something that a guest does: `after` so many nanoseconds it says something on a character device, and acts.

    An empty `chardev` is that of the first serial port.  `show` is what it prints on its screen.
    """

    chardev: str = ""
    say: bytes = b""
    after: int = 0
    action: GuestAction = GuestAction.NONE
    show: bytes = b""


@dataclass(frozen=True, slots=True)
class Rule:
    """A step that comes of something: of what is typed (`match`, on the step's device), or of an `event`.

    What the pattern's groups match stands for `\\1` and so on in what is said, where `expand` is set.
    """

    step: Step
    match: str = ""
    event: str = ""
    once: bool = False
    expand: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """What is in a file: options of the guest (`-guest`), rules, devices that show what is typed, agent's answers."""

    options: tuple[tuple[str, str], ...] = ()
    rules: tuple[Rule, ...] = ()
    echoes: frozenset[str] = frozenset()
    agent: Mapping[str, Any] = field(default_factory=dict)


def compiled(match: str) -> re.Pattern[str]:
    """The pattern of a rule, which finds the bytes of its text, each as one character.

    :raise ValueError: it is no regular expression.
    """
    try:
        return re.compile(_bytes(match))
    except re.error as error:
        raise ValueError(f"'match': {error}") from None


def expectation(step: Step, match: str, *, once: bool, expand: bool) -> Rule:
    """A rule that answers to what is typed.

    :raise ValueError: `match` is no pattern, or matches nothing at all, or has no groups as what is said wants them.
    """
    pattern = compiled(match)
    if not match or pattern.search("") is not None:
        raise ValueError("'match' is a regular expression that matches more than nothing")
    if expand:
        # The same groups, with nothing in them.
        nothing = re.compile(f"{_bytes(match)}\n|").search("")
        try:
            if nothing is not None:
                for text in (step.say, step.show):
                    nothing.expand(text.decode("latin-1"))
        except (re.error, IndexError) as error:
            raise ValueError(f"'say': {error}") from None
    return Rule(step, match, "", once, expand)


def _bytes(text: str) -> str:
    return text.encode().decode("latin-1")


def nanoseconds(text: str | float) -> int:
    """A time as the file has it: seconds, or text with a unit.

    :raise ValueError: it is none.
    """
    match = _TIME.fullmatch(str(text))
    if match is None:
        raise ValueError(f"'{text}' is no time, such as 0.5 or 500ms")
    return round(float(match[1]) * _UNITS[match[2] or "s"])


def load(text: str) -> Script:
    """The script that this content of a file makes, which is what the schema wants.

    :raise ValueError: a time or a pattern is none.
    """
    content = tomllib.loads(text)
    options = tuple((name, _option(value)) for name, value in content.get("guest", {}).items())
    if any(name == "script" for name, _ in options):
        raise ValueError("guest.script: a script has no other")
    rules = [Rule(_step(each), "", each["event"], each.get("once", False)) for each in content.get("on", ())]
    for each in content.get("expect", ()):
        once, expand = each.get("once", False), each.get("expand", False)
        rules.append(expectation(_step(each), each["match"], once=once, expand=expand))
    echoes = frozenset(content.get("console", {}).get("echo", ()))
    return Script(options, tuple(rules), echoes, content.get("agent", {}))


def _option(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _step(entry: Mapping[str, Any]) -> Step:
    action = GuestAction(entry.get("do", "none"))
    say = entry.get("say", "").encode()
    show = entry.get("show", "").encode()
    return Step(entry.get("chardev", ""), say, nanoseconds(entry.get("after", 0)), action, show)

