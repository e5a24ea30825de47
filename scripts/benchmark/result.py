"""What was measured: rows of figures, their ratios, and the aims that they are held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from benchmark.servers import QMPD

UNITS = {
    "us": (1e6, "us"),
    "ms": (1e3, "ms"),
    "s": (1.0, "s"),
    "/s": (1.0, "/s"),
    "MB": (1e-6, "MB"),
    "KB": (1e-3, "KB"),
}
"""How a unit is made of seconds, of events a second or of bytes."""


@dataclass(slots=True)
class Aim:
    """A bound on a ratio of qmpd's figure to `against`, or on the figure itself where that is None.

    `most`: the bound is an upper one.  A bound on the figure is in seconds, bytes or events a second.
    """

    bound: float
    against: str | None = None
    most: bool = True


@dataclass(slots=True)
class Row:
    """One measure: for each subject its figure in every round, in seconds, bytes or events a second."""

    name: str
    unit: str
    values: dict[str, list[float]]
    aims: list[Aim] = field(default_factory=list)
    remark: str = ""

    def figure(self, subject: str) -> float | None:
        """A subject's median over the rounds; None where it was not measured."""
        values = self.values.get(subject)
        return median(values) if values else None

    def ratio(self, subject: str) -> float | None:
        """qmpd's figure in proportion to a subject's: the median of the rounds' own ratios."""
        own, others = self.values.get(QMPD), self.values.get(subject)
        if not own or not others or subject == QMPD:
            return None
        if len(own) != len(others):
            return median(own) / median(others)
        return median(mine / other for mine, other in zip(own, others, strict=True))

    def met(self, aim: Aim) -> bool | None:
        """Whether an aim is met; None where what it needs was not measured."""
        value = self.figure(QMPD) if aim.against is None else self.ratio(aim.against)
        if value is None:
            return None
        return value <= aim.bound if aim.most else value >= aim.bound

    def spell(self, value: float | None) -> str:
        """A figure with its unit."""
        if value is None:
            return ""
        factor, unit = UNITS[self.unit]
        value *= factor
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
        return f"{value:,.{digits}f} {unit}".replace(" /s", "/s")

    def spell_aim(self, aim: Aim) -> str:
        """`<= 0.35 QEMU: met`."""
        sign = "<=" if aim.most else ">="
        bound = self.spell(aim.bound) if aim.against is None else f"{aim.bound:g} x {aim.against}"
        outcome = {True: "met", False: "MISSED", None: "not measured"}[self.met(aim)]
        return f"{sign} {bound}: {outcome}"

    def as_json(self) -> dict[str, object]:
        """Everything known of this row, plain; figures in the row's unit."""
        factor = UNITS[self.unit][0]
        figures = {}
        for subject, values in self.values.items():
            figures[subject] = {"median": median(values) * factor, "rounds": [value * factor for value in values]}
        return {
            "name": self.name,
            "unit": self.unit,
            "ratios": {subject: self.ratio(subject) for subject in self.values if subject != QMPD},
            "figures": figures,
            "aims": [
                {
                    "bound": aim.bound * (factor if aim.against is None else 1),
                    "against": aim.against,
                    "at": "most" if aim.most else "least",
                    "met": self.met(aim),
                }
                for aim in self.aims
            ],
            "remark": self.remark,
        }


def spell_ratio(ratio: float | None) -> str:
    """A ratio with two or three significant digits."""
    if ratio is None:
        return ""
    digits = 0 if ratio >= 100 else 1 if ratio >= 10 else 2 if ratio >= 0.1 else 4
    return f"{ratio:.{digits}f}"
