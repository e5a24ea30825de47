"""What the texts that refuse a type of device tell of it."""

from __future__ import annotations

import re
from typing import Any

_NOT_HOT = re.compile(r"does not support hotplugging|expects (a )?pluggable device type|can not be hotplugged")
# Who refuses it then: the type before a bus is looked for, or the device after that; where neither does, its bus.
_NEVER = (
    ("type", re.compile(r"expects (a )?pluggable device type")),
    ("device", re.compile(r"Device '.*' (does not support hotplugging|can not be hotplugged on this machine)")),
)
_SYSTEM = "expects a dynamic sysbus device type"


def is_hot(refusal: str) -> bool:
    """Whether a type is refused because the machine exists."""
    return _NOT_HOT.search(refusal) is not None


def is_of_system(refusal: str) -> bool:
    """Whether it is refused because the board has no place for it on the system bus."""
    return _SYSTEM in refusal


def hot_facts(refusal: str | None) -> dict[str, Any]:
    """What refuses a type while the machine exists, and who does."""
    if refusal is None:
        return {}
    who = [who for who, words in _NEVER if words.search(refusal)]
    return {"hot": refusal, "hotplug": who[0]} if who else {"hot": refusal}
