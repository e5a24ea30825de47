"""A guest as plain data, for a process that goes on with it."""

from __future__ import annotations

import enum
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.guest.phases import SETTING_KINDS, GuestPhase
from qmpd.machine.blueprint import GuestSettings
from qmpd.machine.requests import WakeupReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.guest.firmware_text import Media
    from qmpd.guest.screen import Screen


class Kept(Protocol):
    """What is kept of a guest (`qmpd.guest.course.Guest`)."""

    settings: GuestSettings
    phase: GuestPhase
    firmware_has_run: bool
    resets_due: int
    starts: int
    wakeup_reason: WakeupReason | None
    keys_held: set[str]
    screen: Screen | None
    boots_from: Media | None

    def have_screen(self) -> Screen:
        """Its screen."""


def take(guest: Kept, timers: Mapping[str, int]) -> dict[str, object]:
    """The guest, its steps to come with the nanoseconds to each."""
    return {
        "phase": str(guest.phase),
        "firmware_has_run": guest.firmware_has_run,
        "resets_due": guest.resets_due,
        "starts": guest.starts,
        "wakeup_reason": None if guest.wakeup_reason is None else str(guest.wakeup_reason),
        "keys_held": sorted(guest.keys_held),
        "screen": None if guest.screen is None else guest.screen.said,
        "boots_from": None if guest.boots_from is None else [list(each) for each in guest.boots_from],
        "timers": dict(timers),
        "settings": {name: _plain(value) for name, value in asdict(guest.settings).items()},
    }


def put(guest: Kept, state: Mapping[str, Any]) -> None:
    """Let a guest be the one that `take` made this of, but for its timers."""
    settings: dict[str, Any] = dict(state["settings"])
    for name, kind in SETTING_KINDS.items():
        if settings[name] is not None:
            settings[name] = kind(settings[name])
    if settings["firmware_resets"] is not None:
        settings["firmware_resets"] = tuple(settings["firmware_resets"])
    guest.settings = GuestSettings(**settings)
    guest.phase = GuestPhase(state["phase"])
    guest.firmware_has_run = state["firmware_has_run"]
    guest.resets_due = state["resets_due"]
    guest.starts = state["starts"]
    guest.keys_held = set(state["keys_held"])
    seen = state["boots_from"]
    guest.boots_from = None if seen is None else tuple((letter, medium, number) for letter, medium, number in seen)
    if state["screen"] is not None:
        guest.have_screen().restore(state["screen"])
    reason = state["wakeup_reason"]
    guest.wakeup_reason = None if reason is None else WakeupReason(reason)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, enum.StrEnum) else value
