"""`qmpd graph`: draws the states of machines, live updates, jobs and migrations, from the program's own tables."""

from __future__ import annotations

import sys

from qmpd.cli.grammar import STATUS, Parser, UsageError, choice
from qmpd.diagram.mermaid import mermaid
from qmpd.diagram.model import DIAGRAMS
from qmpd.diagram.svg import svg

FORMATS = {"mermaid": mermaid, "svg": svg}


def parser() -> Parser:
    """The declaration of the subcommand."""
    result = Parser(
        "graph",
        "Print a state diagram: of a machine's run states, of the stages of a live\n"
        "update, or of the states of jobs or migrations. It is drawn from the table of\n"
        "transitions that the program itself obeys. Mermaid is text that many renderers of\n"
        "Markdown draw; SVG is a picture.",
        examples="  qmpd graph\n  qmpd graph update-stages --format svg > update-stages.svg\n",
    )
    result.add_argument(
        "diagram", nargs="?", default="run-states", type=choice("diagram", DIAGRAMS), metavar="DIAGRAM",
        help=f"what to draw: {', '.join(DIAGRAMS)} (run-states unless said otherwise)",
    )  # fmt: skip
    result.add_argument(
        "--format", default="mermaid", type=choice("format", FORMATS), metavar="|".join(FORMATS),
        help="how to draw it (mermaid unless said otherwise)",
    )  # fmt: skip
    return result


def main(arguments: list[str]) -> int:
    """Run `qmpd graph`; the result is the exit status."""
    try:
        given = parser().read(arguments)
    except UsageError as error:
        sys.stderr.write(f"qmpd graph: {error}\n")
        return STATUS
    if given is not None:
        print(FORMATS[given.format](DIAGRAMS[given.diagram]()), end="")
    return 0
