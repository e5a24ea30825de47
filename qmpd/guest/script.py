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

    An empty `chardev` is that of the first serial port.
    """

    chardev: str = ""
    say: bytes = b""
    after: int = 0
    action: GuestAction = GuestAction.NONE


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

    :raise ValueError: a time is none.
    :raise re.error: a pattern is none.
    """
    content = tomllib.loads(text)
    options = tuple((name, _option(value)) for name, value in content.get("guest", {}).items())
    if any(name == "script" for name, _ in options):
        raise ValueError("guest.script: a script has no other")
    rules = [_rule(each, event=each["event"]) for each in content.get("on", ())]
    rules += [_rule(each, match=each["match"]) for each in content.get("expect", ())]
    echoes = frozenset(content.get("console", {}).get("echo", ()))
    return Script(options, tuple(rules), echoes, content.get("agent", {}))


def _option(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _rule(entry: Mapping[str, Any], *, match: str = "", event: str = "") -> Rule:
    re.compile(match)
    action = GuestAction(entry.get("do", "none"))
    say = entry.get("say", "").encode()
    step = Step(entry.get("chardev", ""), say, nanoseconds(entry.get("after", 0)), action)
    return Rule(step, match, event, entry.get("once", False), entry.get("expand", False))

