"""A chart as SVG: one self-contained picture."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from qmpd.timeline.chart import Chart, Mark
from qmpd.timeline.layout import BAR, CHARACTER, FONT, LABEL, MARGIN, ROW, Column, Layout
from qmpd.timeline.style import (
    BROKEN,
    FAINT,
    INK,
    MARKS,
    MONOSPACE,
    OTHER,
    PAPER,
    QUIET,
    SANS,
    STATES,
    STRIPE,
    UNKNOWN_STATE,
    WORK,
    Look,
)
from qmpd.timeline.wording import duration, moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qmpd.timeline.transcript import Entry

TITLE = 54
HEADER = 38
LEGEND_ROW = 20
NARROWEST = 720


def svg(entries: Iterable[Entry], title: str = "") -> str:
    """Draw a transcript; the result is a whole SVG file.  `title` is put at its top."""
    chart = Chart(entries)
    layout = Layout(chart, TITLE + HEADER + 6)
    width = max(layout.width, NARROWEST)
    rows, key = legend(chart, layout.bottom + 34, width)
    title = title or default_title(chart)
    return frame(
        (width, 0, layout.bottom + 34 + LEGEND_ROW * rows),
        [
            f"<title>{escape(title)}</title>",
            f'<rect width="100%" height="100%" fill="{PAPER}"/>',
            _text(MARGIN, 26, title, size=16, bold=True, family=SANS),
            _text(MARGIN, 44, summary(chart), size=11, colour=QUIET, family=SANS),
            *lane_titles(chart, layout, TITLE, width),
            *body(chart, layout, width),
            *key,
        ],
        f' role="img" aria-label={quoteattr(title)}',
    )


def frame(place: tuple[float, float, float], parts: Iterable[str], attributes: str = "") -> str:
    """These pieces as an SVG element; its place is its width, its top and its height."""
    width, top, height = place
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 {top:.0f} {width:.0f} {height:.0f}" font-family="{MONOSPACE}" font-size="{FONT}"'
        f' fill="{INK}"{attributes}>\n{inside}\n</svg>\n'
    )


def default_title(chart: Chart) -> str:
    """What a picture is called whose name nobody has given."""
    for entry in chart.entries:
        if entry.kind == "started":
            name = entry.members.get("name")
            return f"QEMU {entry.members.get('release')}" + (f" · {name}" if name else "")
    return "Transcript"


def summary(chart: Chart) -> str:
    """How much there is, and when it was."""
    clients = len(chart.lives)
    parts = [
        f"{len(chart.entries)} entries",
        f"{clients} client{'' if clients == 1 else 's'}",
        f"{duration(chart.span)} from first to last",
    ]
    wall = chart.entries[0].wall_microseconds if chart.entries else None
    if wall is not None:
        began = datetime.datetime.fromtimestamp(wall // 1_000_000, datetime.UTC)
        parts.append(f"began {began:%Y-%m-%d %H:%M:%S} UTC")
    return " · ".join([*parts, "time goes downwards, in seconds"])


# Pieces


def _text(
    x: float,
    y: float,
    text: str,
    *,
    colour: str = INK,
    bold: bool = False,
    anchor: str = "start",
    size: float | None = None,
    family: str | None = None,
) -> str:
    attributes = f'x="{x:.1f}" y="{y:.1f}"'
    if colour != INK:
        attributes += f' fill="{colour}"'
    if bold:
        attributes += ' font-weight="bold"'
    if anchor != "start":
        attributes += f' text-anchor="{anchor}"'
    if size is not None:
        attributes += f' font-size="{size}"'
    if family is not None:
        attributes += f' font-family="{family}"'
    return f'<text {attributes} xml:space="preserve">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0, dash: str = "") -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        f' stroke="{colour}" stroke-width="{width:g}"{dashes}/>'
    )


def _rectangle(x: float, y: float, width: float, height: float, fill: str, more: str = "") -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"{more}/>'


def _shape(look: Look, x: float, y: float) -> str:
    """A mark's shape, about ten pixels wide, around a point."""
    solid = f'fill="{look.colour}"'
    outline = f'fill="{PAPER}" stroke="{look.colour}" stroke-width="2"'

    def polygon(*points: tuple[float, float]) -> str:
        spelled = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in points)
        return f'<polygon points="{spelled}" {solid}/>'

    match look.shape:
        case "left":
            return polygon((-6, 0), (4, -5.5), (4, 5.5))
        case "right":
            return polygon((6, 0), (-4, -5.5), (-4, 5.5))
        case "right-barred":
            return polygon((6, 0), (-2, -5.5), (-2, 5.5)) + _rectangle(x - 6, y - 5.5, 2.5, 11, look.colour)
        case "diamond":
            return polygon((-6, 0), (0, -6), (6, 0), (0, 6))
        case "small-diamond":
            return polygon((-4, 0), (0, -4), (4, 0), (0, 4))
        case "square":
            return _rectangle(x - 4.5, y - 4.5, 9, 9, look.colour)
        case "hexagon":
            return polygon((-6, 0), (-3, -5), (3, -5), (6, 0), (3, 5), (-3, 5))
        case "flash":
            return polygon((1, -7), (-5, 1.5), (-1, 1.5), (-2, 7), (5, -2), (0.5, -2))
        case "burst":
            return polygon((0, -6.5), (1.8, -1.8), (6.5, 0), (1.8, 1.8), (0, 6.5), (-1.8, 1.8), (-6.5, 0), (-1.8, -1.8))
        case "bar":
            return _rectangle(x - 6, y - 2, 12, 4, look.colour)
        case "cross":
            return (
                f'<path d="M{x - 4.5:.1f} {y - 4.5:.1f}l9 9m0 -9l-9 9" stroke="{look.colour}" stroke-width="2.5"'
                ' fill="none"/>'
            )
        case "open":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" {outline}/>'
        case "ring":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6.5" fill="none" stroke="{look.colour}" stroke-width="2"/>'
        case _:
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {solid}/>'


# The parts of the picture


def lane_titles(chart: Chart, layout: Layout, top: float, width: float) -> Iterator[str]:
    """The line above the lanes that says what they are."""
    yield _rectangle(0, top, width, HEADER, STRIPE)
    yield _line(0, top + HEADER, width, top + HEADER, FAINT)
    yield _text(layout.time_right, top + 16, "time", bold=True, anchor="end")
    yield _text(layout.band_left, top + 16, "run state", bold=True)
    for lane, column in layout.columns.items():
        x = column.line - 5
        yield _text(x, top + 16, chart.lanes[lane].title, bold=True)
        yield _text(x, top + 30, chart.lanes[lane].subtitle, colour=QUIET, size=10)


def body(chart: Chart, layout: Layout, width: float) -> Iterator[str]:
    """The rows and all that spans them."""
    for index in range(1, len(chart.rows), 2):
        yield _rectangle(0, layout.edge(index), width, ROW, "#f9fafb")
    yield from _lines(chart, layout)
    yield from _breaks(layout, width)
    yield from _band(chart, layout)
    yield from _works(chart, layout)
    yield from _times(chart, layout)
    for index, row in enumerate(chart.rows):
        y = layout.y[index]
        if row.linked:
            lines = [layout.columns[mark.lane].line for mark in row.marks]
            colour = MARKS.get(row.marks[0].style, OTHER).colour
            yield _line(min(lines), y, max(lines), y, colour, 1, "2 3")
        for mark in row.marks:
            yield _mark(mark, layout, layout.columns[mark.lane], y, chart.start)


def _lines(chart: Chart, layout: Layout) -> Iterator[str]:
    if not chart.rows:
        return
    for lane in (0, 1):
        if lane in layout.columns:
            x = layout.columns[lane].line
            yield _line(x, layout.y[0], x, layout.y[-1], FAINT)
    for life in chart.lives:
        x = layout.columns[life.lane].line
        top = layout.top if life.first is None else layout.y[life.first]
        bottom = layout.bottom if life.last is None else layout.y[life.last]
        yield _line(x, top, x, bottom, "#8b95a3", 1.5)


def _breaks(layout: Layout, width: float) -> Iterator[str]:
    """Strips across everything, over which the lines go on dashed."""
    for gap in layout.breaks:
        y, height = gap.top, gap.height
        left = layout.band_left + layout.band_width + 6
        yield _rectangle(0, y, width, height, PAPER, ' fill-opacity="0.72"')
        yield f'<path d="{_zigzag(left, width, y + height / 2)}" stroke="{FAINT}" fill="none"/>'


def _zigzag(left: float, right: float, y: float) -> str:
    teeth = max(1, int((right - left) // 8))
    return f"M{left:.1f} {y + 2:.1f}" + "l4 -4l4 4" * teeth


def _band(chart: Chart, layout: Layout) -> Iterator[str]:
    """The run state, and a notch where a break is."""
    x, width = layout.band_left, layout.band_width
    states = chart.states
    for index, state in enumerate(states):
        top = layout.top if index == 0 else layout.edge(state.row)
        bottom = layout.edge(states[index + 1].row) if index + 1 < len(states) else layout.bottom
        if bottom <= top:
            continue
        fill = STATES.get(state.name, UNKNOWN_STATE)
        label = f"run state {state.name}"
        number = "" if state.entry is None else f' data-entry="{state.entry.number}"'
        yield f'<g class="mark state"{number}><title>{escape(label)}</title>'
        yield _rectangle(x, top, width, bottom - top, fill, f' stroke="{PAPER}"')
        yield _text(x + 7, top + ROW / 2 + 4, state.name)
        yield "</g>"
    if states:
        for gap in layout.breaks:
            y = gap.top + gap.height / 2
            yield (
                f'<path d="M{x:.1f} {y + 3:.1f}' + "l4 -5l4 5" * int(width // 8) + f'" stroke="{PAPER}"'
                ' stroke-width="2.5" fill="none"/>'
            )


def _works(chart: Chart, layout: Layout) -> Iterator[str]:
    for work in chart.works:
        x = layout.columns[work.lane].line - 3 - min(work.depth, 4) * BAR
        top = layout.y[work.first]
        bottom = layout.bottom if work.last is None else layout.y[work.last]
        yield _rectangle(x, top, 6, max(bottom - top, 2), BROKEN if work.broken else WORK, ' rx="2"')


def _times(chart: Chart, layout: Layout) -> Iterator[str]:
    shown = None
    for row, y in zip(chart.rows, layout.y, strict=True):
        text = moment(row.time - chart.start)
        if text != shown and row.marks:
            yield _text(layout.time_right, y + 4, text, colour=QUIET, anchor="end")
            shown = text
    for gap in layout.breaks:
        y = gap.top + gap.height / 2
        yield _text(layout.time_right, y + 3.5, f"+ {gap.text}", bold=True, anchor="end", size=10.5)


def _mark(mark: Mark, layout: Layout, column: Column, y: float, start: int) -> str:
    look = MARKS.get(mark.style, OTHER)
    text = layout.label(mark)
    numbers = " ".join(str(entry.number) for entry in mark.entries)
    parts = [f'<g class="mark" data-entry="{numbers}"><title>{escape(_tooltip(mark, start))}</title>']
    if text:
        x = column.line + LABEL
        parts.append(_rectangle(x - 2, y - 7, len(text) * CHARACTER + 4, 14, PAPER, ' fill-opacity="0.85"'))
        colour = INK if mark.style in ("connected", "disconnected") else look.colour
        parts.append(_text(x, y + 4, text, colour=colour, bold=look.bold))
    parts.append(_shape(look, column.line, y))
    return "".join([*parts, "</g>"])


def _tooltip(mark: Mark, start: int) -> str:
    lines = []
    for entry in mark.entries:
        who = "" if entry.client is None else f", client {entry.client}"
        lines.append(f"{moment(entry.time - start)} s, {entry.kind}{who}")
        lines += [
            json.dumps(entry.members[name], ensure_ascii=False)[:2000]
            for name in ("message", "text", "error", "data", "arguments")
            if name in entry.members
        ]
    if mark.text:
        lines.insert(0, mark.text[:200])
    return "\n".join(lines)


def legend(chart: Chart, top: float, width: float) -> tuple[int, list[str]]:
    """What the shapes and the bars mean, of those that are there: how many rows it takes, and its pieces."""
    x, row = float(MARGIN), 0
    parts = [_line(0, top - 18, width, top - 18, FAINT)]
    entries: dict[str, Look | str] = {}
    styles = {mark.style for each in chart.rows for mark in each.marks}
    for style, look in MARKS.items():
        if style in styles:
            entries.setdefault(look.legend, look)
    if any(not work.broken for work in chart.works):
        entries["command waits for its reply"] = WORK
    if any(work.broken for work in chart.works):
        entries["its reply never came"] = BROKEN
    for name, look_or_fill in entries.items():
        needed = 18 + len(name) * 6.3 + 18
        if x + needed > width - MARGIN and x > MARGIN:
            x, row = float(MARGIN), row + 1
        y = top + row * LEGEND_ROW
        if isinstance(look_or_fill, str):
            parts.append(_rectangle(x + 3, y - 7, 6, 14, look_or_fill, ' rx="2"'))
        else:
            parts.append(_shape(look_or_fill, x + 6, y))
        parts.append(_text(x + 18, y + 4, name, colour=QUIET, size=11, family=SANS))
        x += needed
    return row + 1, parts
