"""The drawing of the rooms in docs/architecture.md, made from what really imports what.

`python -m tests.house.architecture` draws it anew.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.house.imports import ROOT, rooms

PAGE = ROOT / "docs" / "architecture.md"
_MARKS = re.compile(r"(<!-- rooms -->\n).*?(<!-- end of rooms -->)", re.DOTALL)


def storeys() -> list[list[str]]:
    """The rooms by storeys, the ground first: a room stands above all from which it imports.

    Rooms that import each other in a circle share a storey.
    """
    graph = rooms()
    reach = {name: _below(graph, name) for name in graph}
    height: dict[str, int] = {}
    while len(height) < len(graph):
        for name in graph:
            below = {each for each in reach[name] if name not in reach[each]} - {name}
            if name not in height and below <= height.keys():
                height[name] = 1 + max((height[each] for each in below), default=-1)
    return [sorted(name for name in graph if height[name] == level) for level in range(max(height.values()) + 1)]


def _below(graph: dict[str, frozenset[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph[waiting.pop()]:
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def drawing() -> str:
    """The rooms, the highest storey first, and what each imports from."""
    graph = rooms()
    lines = ["```text"]
    for level in reversed(storeys()):
        for name in level:
            to = " ".join(sorted(graph[name])) or "-"
            lines.append(f"{name:<16} -> {to}")
        lines.append("")
    return "\n".join([*lines[:-1], "```", ""])


def drawn(page: str) -> str:
    """The page with the drawing in its place."""
    return _MARKS.sub(lambda match: match[1] + drawing() + match[2], page)


if __name__ == "__main__":
    Path(PAGE).write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
