"""The clock of a machine that is played with: it goes at the computer's pace, at another, or not at all."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from qmpd.common.suggestions import suggestion
from qmpd.machine import ScaledClock, VirtualClock

if TYPE_CHECKING:
    from collections.abc import Mapping


class ClockKind(enum.StrEnum):
    """At what pace a machine's time passes.

    `real`: at the computer's; `scaled`: `factor` times as fast; `virtual`: it stands still until it is advanced.
    """

    REAL = "real"
    SCALED = "scaled"
    VIRTUAL = "virtual"


class PuppetClock:
    """A clock whose kind may be changed at any time; what it shows goes on from there, without a jump.

    Its monotonic time starts at 0; one that is virtual from the start shows the same time of day in every run.

    :raise ValueError: the factor is beyond its bounds (`qmpd.schedule.clock`).
    """

    __slots__ = ("_clock", "factor", "kind")

    def __init__(self, kind: ClockKind = ClockKind.REAL, factor: float = 1.0) -> None:
        self.kind = kind
        self.factor = factor
        self._clock: ScaledClock | VirtualClock = (
            VirtualClock() if kind is ClockKind.VIRTUAL else ScaledClock(factor, monotonic=0)
        )

    @classmethod
    def parse(cls, text: str) -> PuppetClock:
        """The clock that `-clock` asks for: `real`, `scaled=FACTOR` or `virtual`.

        :raise ValueError: it is none of them; the text says what is wrong.
        """
        name, equals, factor = text.partition("=")
        if name == "scaled" and equals:
            try:
                number = float(factor)
            except ValueError:
                raise ValueError(f"'{factor}' is not a number") from None
            return cls(ClockKind.SCALED, number)
        if text in ("real", "virtual"):
            return cls(ClockKind(text))
        meant = suggestion(text.partition("=")[0], ("real", "scaled", "virtual"), few=0)
        raise ValueError(f"'{text}' is not a clock: real, scaled=FACTOR and virtual are{meant}")

    def set(self, kind: ClockKind, factor: float = 1.0) -> None:
        """Change the pace.  `factor` is for a scaled clock.

        :raise ValueError: the factor is beyond its bounds (`qmpd.schedule.clock`).
        """
        wall, monotonic = self.wall_microseconds(), self.monotonic_nanoseconds()
        if kind is ClockKind.VIRTUAL:
            self._clock = VirtualClock(wall, monotonic)
        else:
            self._clock = ScaledClock(factor if kind is ClockKind.SCALED else 1.0, wall, monotonic)
        self.kind = kind
        self.factor = factor if kind is ClockKind.SCALED else 1.0

    def advance(self, nanoseconds: int) -> None:
        """Let `nanoseconds` pass at once, whatever the kind.

        :raise ValueError: the number is negative.
        """
        self._clock.advance(nanoseconds)

    def wall_microseconds(self) -> int:
        """The machine's time of day, in microseconds since the epoch."""
        return self._clock.wall_microseconds()

    def monotonic_nanoseconds(self) -> int:
        """The machine's monotonic time, in nanoseconds."""
        return self._clock.monotonic_nanoseconds()

    def real_seconds(self, nanoseconds: int) -> float | None:
        """How long the computer takes until `nanoseconds` more have passed here; None: it has to be advanced."""
        return self._clock.real_seconds(nanoseconds)

    def snapshot(self) -> dict[str, object]:
        """The clock as plain data."""
        return {
            "kind": str(self.kind),
            "factor": self.factor,
            "wall": self.wall_microseconds(),
            "monotonic": self.monotonic_nanoseconds(),
        }

    def restore(self, state: Mapping[str, Any], passed: int) -> None:
        """Become the clock that `snapshot` made `state` of, `passed` nanoseconds of the computer's time ago."""
        self.kind = ClockKind(state["kind"])
        self.factor = state["factor"]
        wall, monotonic = state["wall"], state["monotonic"]
        if self.kind is ClockKind.VIRTUAL:
            self._clock = VirtualClock(wall, monotonic)
        else:
            passed = int(passed * self.factor)
            self._clock = ScaledClock(self.factor, wall + passed // 1000, monotonic + passed)
