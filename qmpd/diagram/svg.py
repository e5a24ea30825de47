"""A state diagram as SVG: boxes in layers, curved arrows, and letters in place of the arrows that would hide them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from qmpd.diagram.layout import Layout, Place, Route, arrange

if TYPE_CHECKING:
    from qmpd.diagram.model import StateDiagram

MARGIN = 24
TITLE = 52
CHARACTER = 7.4
"""The width of a character of a box's text, in pixels."""
PADDING = 26
HEIGHT = 34
LETTERS = 24
"""How much higher a box is that has letters."""
LETTER_STEP = 20
OWN_LETTER = 30
LEGEND_ROW = 24

STYLE = """\
text { font-family: -apple-system, "Segoe UI", "DejaVu Sans", Helvetica, Arial, sans-serif; fill: #24292f; }
.title { font-size: 17px; font-weight: 600; }
.state { font-size: 13px; text-anchor: middle; }
.legend { font-size: 12px; fill: #57606a; }
.box { fill: #f6f8fa; stroke: #8c959f; stroke-width: 1.2; }
.live { fill: #dafbe1; stroke: #2da44e; }
.final { fill: #ffebe9; stroke: #cf222e; }
.arrow { fill: none; stroke: #57606a; stroke-width: 1.3; }
.dot { fill: #24292f; }
.sometimes { stroke-dasharray: 4 3; }
.letter { fill: #ffffff; stroke: #0969da; stroke-width: 1.1; }
.letters { font-size: 10px; font-weight: 600; text-anchor: middle; fill: #0969da; }
"""


def svg(diagram: StateDiagram) -> str:
    """The drawing, its last line ended."""
    popular = diagram.popular()
    sizes: dict[str, tuple[float, float]] = {}
    for state in diagram.states:
        letters = len(diagram.letters(state))
        own = OWN_LETTER if state in popular else 0
        width = max(len(state) * CHARACTER + PADDING + own, letters * LETTER_STEP + 14, 84)
        sizes[state] = (width, HEIGHT + (LETTERS if letters else 0))
    arrows = diagram.arrows()
    layout = arrange(sizes, [(arrow.source, arrow.target) for arrow in arrows], diagram.initial)
    legend = _legend(diagram)
    width = layout.width + 2 * MARGIN
    height = TITLE + layout.height + 2 * MARGIN + 8 + LEGEND_ROW * len(legend)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">',
        f"<title>{escape(diagram.title)}</title>",
        f"<style>\n{STYLE}</style>",
        "<defs>",
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0.6 L8 4 L0 7.4 z" fill="#57606a"/></marker>',
        "</defs>",
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" fill="#ffffff"/>',
        f'<text class="title" x="{MARGIN}" y="{MARGIN + 8}">{escape(diagram.title)}</text>',
        f'<g transform="translate({MARGIN} {TITLE + 16})">',
    ]
    ports = _ports(layout)
    for number, (arrow, route) in enumerate(zip(arrows, layout.routes, strict=True)):
        parts.append(_arrow(route, ports[number, True], ports[number, False], arrow.sometimes))
    for state, place in layout.boxes.items():
        parts += _box(diagram, popular, state, place)
    parts.append("</g>")
    for row, texts in enumerate(legend):
        y = TITLE + layout.height + MARGIN + 8 + LEGEND_ROW * (row + 0.9)
        parts += [f'<g transform="translate({MARGIN} {y:.1f})">', *texts, "</g>"]
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


Ports = dict[tuple[int, bool], float]
"""The number of an arrow, and whether its left end is meant -> the height at which it touches the box."""


def _ports(layout: Layout) -> Ports:
    """Where arrows touch their boxes: those at one side share it, in the order of their other ends."""
    sides: dict[tuple[str, bool], list[tuple[float, int]]] = {}
    for number, route in enumerate(layout.routes):
        first, last = route.places[0], route.places[-1]
        sides.setdefault((first.name, True), []).append((route.places[1].y, number))
        sides.setdefault((last.name, False), []).append((route.places[-2].y, number))
    ports: Ports = {}
    for (name, leaving), arrows in sides.items():
        place = layout.boxes[name]
        step = min(10.0, (place.height - 8) / len(arrows))
        for index, (_, number) in enumerate(sorted(arrows)):
            ports[number, leaving] = place.y + (index - (len(arrows) - 1) / 2) * step
    return ports


def _arrow(route: Route, y: float, end: float, sometimes: bool) -> str:
    """The path from height `y` on the right of its first box to height `end` on the left of its last."""
    first, last = route.places[0], route.places[-1]
    x = first.x + first.width / 2
    path = [f"M{x:.1f} {y:.1f}"]
    for place in route.places[1:]:
        to_x = place.x - place.width / 2
        to_y = end if place is last else place.y
        bend = (to_x - x) * 0.5
        path.append(f"C{x + bend:.1f} {y:.1f} {to_x - bend:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
        if place is not last:
            x = place.x + place.width / 2
            path.append(f"H{x:.1f}")
    head = "marker-start" if route.backwards else "marker-end"
    kind = "arrow sometimes" if sometimes else "arrow"
    return f'<path class="{kind}" d="{" ".join(path)}" {head}="url(#head)"/>'


def _box(diagram: StateDiagram, popular: dict[str, str], state: str, place: Place) -> list[str]:
    left, top = place.x - place.width / 2, place.y - place.height / 2
    kind = f"box {diagram.emphasis[state]}" if state in diagram.emphasis else "box"
    parts = [
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{place.width:.1f}" height="{place.height:.1f}" '
        'rx="7"/>'
    ]
    # Where it begins and ends is shown above the box, out of the other arrows' way.
    if state in diagram.initial:
        parts.append(f'<circle class="dot" cx="{left + 18:.1f}" cy="{top - 17:.1f}" r="4"/>')
        parts.append(f'<path class="arrow" d="M{left + 18:.1f} {top - 14:.1f} V{top:.1f}" marker-end="url(#head)"/>')
    if state in diagram.final:
        x = left + place.width - 18
        parts.append(f'<path class="arrow" d="M{x:.1f} {top:.1f} V{top - 12:.1f}" marker-end="url(#head)"/>')
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{top - 18:.1f}" r="3"/>')
        parts.append(f'<circle class="arrow" cx="{x:.1f}" cy="{top - 18:.1f}" r="5.5"/>')
    middle = place.x
    if state in popular:
        parts += _letter(popular[state], left + 18, top + HEIGHT / 2, False)
        middle += OWN_LETTER / 2
    parts.append(f'<text class="state" x="{middle:.1f}" y="{top + HEIGHT / 2 + 4.5:.1f}">{escape(state)}</text>')
    letters = diagram.letters(state)
    for index, (target, sometimes) in enumerate(letters):
        x = place.x + (index - (len(letters) - 1) / 2) * LETTER_STEP
        parts += _letter(popular[target], x, top + HEIGHT + 8, sometimes)
    return parts


def _letter(letter: str, x: float, y: float, sometimes: bool) -> list[str]:
    kind = "letter sometimes" if sometimes else "letter"
    return [
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="8"/>',
        f'<text class="letters" x="{x:.1f}" y="{y + 3.6:.1f}">{letter}</text>',
    ]


def _legend(diagram: StateDiagram) -> list[list[str]]:
    """The rows below the drawing."""
    rows = []
    popular = diagram.popular()
    if popular:
        row = _letter("X", 8, 0, False)
        names = ", ".join(f"{letter} {state}" for state, letter in popular.items())
        row.append(f'<text class="legend" x="24" y="4">in a box: may go to that state as well ({escape(names)})</text>')
        rows.append(row)
    row = []
    x = 0.0
    for kind, text in diagram.legend:
        if kind == "sometimes":
            row.append(f'<path class="arrow sometimes" d="M{x:.0f} 0 h22"/>')
        else:
            row.append(f'<rect class="box {kind}" x="{x:.0f}" y="-8" width="22" height="16" rx="4"/>')
        row.append(f'<text class="legend" x="{x + 30:.0f}" y="4">{escape(text)}</text>')
        x += 30 + len(text) * 6.6 + 22
    rows.append(row)
    return rows
