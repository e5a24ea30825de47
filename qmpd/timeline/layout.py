"""Where everything of a chart stands, in pixels.

Rows are as far apart as their text needs; where time passes between two, they are further apart, by the logarithm
of that time.  The longest of such gaps become breaks, which say how long they are.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qmpd.timeline.wording import duration, moment

if TYPE_CHECKING:
    from qmpd.timeline.chart import Chart, Mark

ROW = 20
FONT = 11.5
CHARACTER = 0.602 * FONT
"""The width of a character of the monospaced fonts that `style.MONOSPACE` names."""

MARGIN = 16
LABEL = 13
"""From the middle of a mark to its text."""
BAR = 6
"""From one command that waits to another one that waits at the same time."""

SHORTEST_GAP = 100_000
PER_DECADE = 5.0
LONGEST = 28.0
BREAK_FROM = 14.0
BREAKS = 40
WIDEST = 60
NARROWER = 34
"""Characters of a label, where there are few lanes and where there are many."""


@dataclass(slots=True)
class Column:
    """A lane's place: `left` and `width`, and `line`, where its marks are."""

    left: float
    line: float
    width: float
    characters: int


@dataclass(slots=True)
class Break:
    """A strip between two rows in which a long time passes."""

    top: float
    height: float
    text: str


class Layout:
    """A chart's places.  Rows are counted from 0; `top` is where the first begins, below the header."""

    def __init__(self, chart: Chart, top: float = 0.0) -> None:
        self.chart = chart
        self.top = top
        self.breaks: list[Break] = []
        self.y: list[float] = []
        self._edges: list[float] = []
        self._place_rows()
        self.time_right = MARGIN + max(len(moment(chart.span)), 9) * CHARACTER
        self.band_left = self.time_right + 14
        longest = max((len(state.name) for state in chart.states), default=0)
        self.band_width = max(longest * CHARACTER + 14, len("run state") * CHARACTER + 14)
        self.columns: dict[int, Column] = {}
        self.width = self._place_columns()

    @property
    def bottom(self) -> float:
        """Where the last row ends."""
        return self._edges[-1]

    def edge(self, row: int) -> float:
        """Where row `row` begins."""
        return self._edges[row]

    def _place_rows(self) -> None:
        rows = self.chart.rows
        gaps = [0, *(later.time - row.time for row, later in itertools.pairwise(rows))]
        longest = max(gaps, default=0)
        extras = [_extra(gap, longest) for gap in gaps]
        broken = {
            index
            for index in sorted(range(len(gaps)), key=lambda index: gaps[index], reverse=True)[:BREAKS]
            if extras[index] >= BREAK_FROM
        }
        y = self.top
        self._edges = [y]
        for index, (gap, extra) in enumerate(zip(gaps, extras, strict=True)):
            if not rows:
                break
            if index in broken:
                self.breaks.append(Break(y, extra, duration(gap)))
            y += extra
            self.y.append(y + ROW / 2)
            # A state that begins with this row begins where its time has passed.
            self._edges[-1] = y
            y += ROW
            self._edges.append(y)

    def _place_columns(self) -> float:
        chart = self.chart
        lanes = [lane for lane in range(len(chart.lanes)) if lane != 1 or chart.played]
        characters = WIDEST if len(lanes) <= 4 else NARROWER
        widest = dict.fromkeys(lanes, 8)
        for row in chart.rows:
            for mark in row.marks:
                widest[mark.lane] = max(widest[mark.lane], min(len(mark.text), characters))
        depths = dict.fromkeys(lanes, 0)
        for work in chart.works:
            depths[work.lane] = max(depths[work.lane], min(work.depth, 4))
        left = self.band_left + self.band_width + 14
        for lane in lanes:
            title = chart.lanes[lane]
            header = max(len(title.title), len(title.subtitle)) * CHARACTER
            before = 14 + depths[lane] * BAR
            width = before + max(LABEL + widest[lane] * CHARACTER, header) + 12
            self.columns[lane] = Column(left, left + before, width, characters)
            left += width
        return left + MARGIN

    def label(self, mark: Mark) -> str:
        """A mark's text, as much of it as there is room for."""
        room = self.columns[mark.lane].characters
        return mark.text if len(mark.text) <= room else mark.text[: room - 1] + "…"


def _extra(gap: int, longest: int) -> float:
    """The height of a gap of so many nanoseconds."""
    extra = PER_DECADE * math.log10(gap / SHORTEST_GAP) if gap > SHORTEST_GAP else 0.0
    if longest > 0 and gap * 20 >= longest and gap >= 1000:
        # Where all goes fast the longest gaps are shown all the same.
        extra = max(extra, BREAK_FROM + 2 + 6 * math.log10(gap / longest))
    return min(extra, LONGEST)
