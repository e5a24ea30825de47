"""A state diagram as Mermaid text, which many renderers of Markdown draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmpd.diagram.model import StateDiagram


def mermaid(diagram: StateDiagram) -> str:
    """The text, its last line ended.

    A state's box also lists the states that it leads to and that so many do that arrows would hide all else.
    """
    lines = ["stateDiagram-v2", "    direction LR"]
    lines += [f'    state "{state}" as {_identifier(state)}' for state in diagram.states]
    for state in diagram.states:
        always = [target for target, sometimes in diagram.letters(state) if not sometimes]
        sometimes = [target for target, sometimes in diagram.letters(state) if sometimes]
        if always:
            lines.append(f"    {_identifier(state)} : also to {', '.join(always)}")
        if sometimes:
            lines.append(f"    {_identifier(state)} : in some releases to {', '.join(sometimes)}")
    lines += [f"    [*] --> {_identifier(state)}" for state in diagram.states if state in diagram.initial]
    for arrow in diagram.arrows():
        label = " : in some releases" if arrow.sometimes else ""
        lines.append(f"    {_identifier(arrow.source)} --> {_identifier(arrow.target)}{label}")
    lines += [f"    {_identifier(state)} --> [*]" for state in diagram.states if state in diagram.final]
    return "\n".join(lines) + "\n"


def _identifier(state: str) -> str:
    return state.replace("-", "_")
