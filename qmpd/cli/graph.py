"""`qmpd graph`: draws the run states or the stages of a live update, from the tables that the program runs by."""

from __future__ import annotations

import sys

from qmpd.diagram.mermaid import mermaid
from qmpd.diagram.model import DIAGRAMS
from qmpd.diagram.svg import svg

FORMATS = {"mermaid": mermaid, "svg": svg}

USAGE = """\
usage: qmpd graph [run-states|update-stages] [--format mermaid|svg]

Print a state diagram: of a machine's run states, or of the stages of a live
update. It is drawn from the table of transitions that the program itself obeys.
Mermaid is text that many renderers of Markdown draw; SVG is a picture.

examples:
  qmpd graph
  qmpd graph update-stages --format svg > update-stages.svg
"""


def main(arguments: list[str]) -> int:
    """Run `qmpd graph`; the result is the exit status."""
    name, kind = "run-states", "mermaid"
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-h", "-help", "--help"):
            print(USAGE, end="")
            return 0
        option, equals, value = argument.partition("=")
        if option in ("--format", "-format"):
            kind = value if equals else next(rest, "")
            if kind not in FORMATS:
                return _refuse(f"{argument}: there are {' and '.join(FORMATS)}")
        elif argument in DIAGRAMS:
            name = argument
        else:
            return _refuse(f"{argument}: there are {' and '.join(DIAGRAMS)}")
    print(FORMATS[kind](DIAGRAMS[name]()), end="")
    return 0


def _refuse(text: str) -> int:
    sys.stderr.write(f"qmpd: graph: {text}\n")
    return 1
