"""Memory over time as a picture: SVG for a file, blocks for a terminal."""

from __future__ import annotations

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH, HEIGHT, MARGIN = 800, 300, 60


def sparkline(values: list[int], width: int = 60) -> str:
    """Values as a line of blocks, from 0 to the largest."""
    if not values:
        return ""
    step = max(1.0, len(values) / width)
    picked = [values[int(position * step)] for position in range(min(width, len(values)))]
    top = max(picked) or 1
    return "".join(BLOCKS[round(value / top * (len(BLOCKS) - 1))] for value in picked)


def svg(points: list[tuple[float, int]], title: str, unit: str) -> str:
    """A picture of bytes over seconds or steps."""
    right = max((x for x, _ in points), default=0.0) or 1.0
    top = max((y for _, y in points), default=0) * 1.2 or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return MARGIN + x / right * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - y / top * (HEIGHT - 2 * MARGIN)

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        "<style>text { font-size: 12px }</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/><text x="{MARGIN}" y="30" >{title}</text>',
    ]
    for share in (0, 0.5, 1):
        _, y = place(0, share * top)
        parts.append(f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ccc"/>')
        size = f"{share * top / (1 << 20):.0f} MB"
        parts.append(f'<text x="{MARGIN - 8}" y="{y + 4:.1f}" text-anchor="end">{size}</text>')
        x, _ = place(share * right, 0)
        text = f"{share * right:.0f} {unit}"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - MARGIN + 20}" text-anchor="middle">{text}</text>')
    parts.append(f'<polyline points="{line}" fill="none" stroke="#06c" stroke-width="2"/></svg>\n')
    return "\n".join(parts)
