"""What a guest prints on its consoles, and what it answers there: its script, and what it is told.

All of it goes with the machine's own time: a guest that is stopped prints nothing, and hears nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from qmpd.guest.firmware_text import FIRMWARE_EVENTS, printed
from qmpd.guest.script import Rule, Script, Step, compiled
from qmpd.machine.blueprint import GuestAction

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Hashable, Mapping

    from qmpd.chardev.front_ends import FrontEnd
    from qmpd.guest.firmware_text import BootDevices
    from qmpd.schedule.schedule import Schedule

MOST = 1 << 16
"""Bytes of what was typed that are kept for patterns to match."""

_HEAR = "hear "


class Place(Protocol):
    """Where the consoles are in the machine."""

    def label(self, name: str) -> str | None:
        """The character device of this name, or, for an empty one, that of the first serial port; None without one."""

    def front_end(self, label: str) -> FrontEnd:
        """The machine's end of a device."""

    def boot_devices(self) -> BootDevices | None:
        """What the firmware can start from, where it prints something at the first serial port."""

    def say(self, label: str, data: bytes) -> None:
        """Say something through a device, whose port is opened where it is one that is opened."""

    def show(self, data: bytes) -> bool:
        """Print something on the screen; False where there is none."""

    def act(self, action: GuestAction) -> None:
        """Have the guest do something."""

    def observe(self, text: str) -> None:
        """Tell of a step in the transcript."""


class Console:
    """The consoles of one guest; `runs` tells whether it does."""

    __slots__ = (
        "_echoes", "_ends", "_greeting", "_heard", "_last", "_place", "_rules", "_runs", "_schedule", "_steps", "_wake",
    )  # fmt: skip

    def __init__(
        self,
        script: Script,
        place: Place,
        schedule: Schedule,
        runs: Callable[[], bool],
        wake: Callable[[], None],
        words: str,
    ) -> None:
        self._place = place
        self._schedule = schedule
        self._runs = runs
        self._wake = wake
        # The firmware's.
        self._greeting = words
        self._rules = list(script.rules)
        self._echoes = script.echoes
        # Where what is typed is heard, by the devices' labels.
        self._ends: dict[str, FrontEnd] = {}
        # What was typed at each device since something last matched.
        self._heard: dict[str, bytearray] = {}
        # The steps that are to come, by the names of their timers.
        self._steps: dict[str, Step] = {}
        self._last = 0

    def listen(self) -> None:
        """Hear what is typed from now on, at the devices that there are rules for."""
        for name in {rule.step.chardev for rule in self._rules if rule.match} | self._echoes:
            label = self._place.label(name)
            if label is not None:
                end = self._place.front_end(label)
                end.holds = True
                if end.arrived is None:
                    end.arrived = self._arrival(label)
                    self._ends[label] = end

    def _arrival(self, label: str) -> Callable[[], None]:
        def arrived() -> None:
            self._schedule.set(self, _HEAR + label, 0)
            self._wake()

        return arrived

    def end(self) -> None:
        """Do nothing any more, and leave what is typed to others."""
        self._schedule.clear(self)
        self._steps.clear()
        for end in self._ends.values():
            end.arrived = None
        self._ends.clear()

    # What happens

    def expect(self, rule: Rule) -> None:
        """Have one more rule, which comes before those that there are."""
        self._rules.insert(0, rule)
        self.listen()

    def say(self, name: str, data: bytes) -> bool:
        """Say something at once; False where there is no such device."""
        label = self._place.label(name)
        if label is None:
            return False
        self._place.say(label, data)
        return True

    def happened(self, event: str) -> None:
        """Something has happened to the guest."""
        if event == "reset":
            self._schedule.clear(self)
            self._steps.clear()
            self._heard.clear()
        if event in FIRMWARE_EVENTS and (devices := self._place.boot_devices()) is not None:
            self.say("", printed(event, self._greeting, devices))
        for rule in [rule for rule in self._rules if rule.event == event]:
            self._begin(rule, rule.step)

    def _begin(self, rule: Rule, step: Step) -> None:
        if rule.once:
            self._rules.remove(rule)
        if not step.after:
            self._take(step)
            return
        self._last += 1
        name = f"step {self._last}"
        self._steps[name] = step
        self._schedule.set(self, name, step.after)

    def _take(self, step: Step) -> None:
        if step.say:
            self.say(step.chardev, step.say)
        if step.show and not self._place.show(step.show):
            self._place.observe("nothing shown, as there is no screen")
        if step.action is not GuestAction.NONE:
            self._place.act(step.action)

    def timer_due(self, name: Hashable) -> None:
        """Take a step (`qmpd.schedule.schedule.Owner`)."""
        text = str(name)
        if text.startswith(_HEAR):
            if self._runs():
                self._hear(text.removeprefix(_HEAR))
        else:
            self._take(self._steps.pop(text))

    def _hear(self, label: str) -> None:
        data = self._place.front_end(label).take()
        if not data:
            return
        self._place.observe(f"typed {label} {data.decode('latin-1')!r}")
        if any(self._place.label(name) == label for name in self._echoes):
            self._place.say(label, data.replace(b"\r", b"\r\n") if b"\n" not in data else data)
        heard = self._heard.setdefault(label, bytearray())
        heard += data
        del heard[: max(len(heard) - MOST, 0)]
        while self._answer(label, heard):
            pass

    def _answer(self, label: str, heard: bytearray) -> bool:
        """Let the first rule answer that matches what was typed; False where none does."""
        text = heard.decode("latin-1")
        for rule in self._rules:
            if not rule.match or self._place.label(rule.step.chardev) != label:
                continue
            match = compiled(rule.match).search(text)
            if match is None or match.end() == 0:
                continue
            del heard[: match.end()]
            self._begin(rule, _expanded(rule, match))
            return True
        return False

    # Another process

    def snapshot(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "rules": [[_plain(each.step), each.match, each.event, each.once, each.expand] for each in self._rules],
            "waits": {label: end.snapshot() for label, end in self._ends.items()},
            "heard": {label: heard.decode("latin-1") for label, heard in self._heard.items()},
            "steps": {name: _plain(step) for name, step in self._steps.items()},
            "timers": {str(name): left for name, left in self._schedule.remaining(self).items()},
            "last": self._last,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `snapshot` made this of."""
        self._rules = [Rule(_step(step), *rest) for step, *rest in state["rules"]]
        self._heard = {label: bytearray(text.encode("latin-1")) for label, text in state["heard"].items()}
        self._steps = {name: _step(plain) for name, plain in state["steps"].items()}
        self._last = state["last"]
        for name, left in state["timers"].items():
            self._schedule.set(self, name, left)
        self.listen()
        for label, waits in state["waits"].items():
            if label in self._ends:
                self._ends[label].restore(waits)


def _expanded(rule: Rule, match: re.Match[str]) -> Step:
    """The step of a rule that has matched."""
    if not rule.expand:
        return rule.step
    step = rule.step
    say, show = (match.expand(each.decode("latin-1")).encode("latin-1") for each in (step.say, step.show))
    return Step(step.chardev, say, step.after, step.action, show)


def _plain(step: Step) -> list[object]:
    return [step.chardev, step.say.decode("latin-1"), step.after, str(step.action), step.show.decode("latin-1")]


def _step(plain: list[Any]) -> Step:
    return Step(plain[0], plain[1].encode("latin-1"), plain[2], GuestAction(plain[3]), plain[4].encode("latin-1"))
