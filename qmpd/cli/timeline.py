"""`qmpd timeline`: a transcript as a picture."""

from __future__ import annotations

import sys

from qmpd.cli.grammar import STATUS, Parser, UsageError, whole_number


def parser() -> Parser:
    """The declaration of the subcommand."""
    result = Parser(
        "timeline",
        "Draw the transcript FILE, which 'qmpd serve --transcript FILE' has written: a\n"
        "lane for each client, the run state as a coloured band, and a mark for each\n"
        "command, reply, event, guest's step, fault and puppeteer's command. Time goes\n"
        "downwards.",
        examples="  qmpd timeline vm.jsonl -o vm.svg\n  qmpd timeline vm.jsonl -o vm.html --from 100 --to 200\n",
    )
    result.add_argument("file", metavar="FILE", nargs="?", help="a transcript; - for standard input")
    result.add_argument(
        "-o", dest="output", metavar="OUT", default="",
        help="what to write: a picture (.svg), or a page (.html) that also shows what is behind each mark, and a table "
        "of all entries",
    )  # fmt: skip
    result.add_argument("--title", metavar="TEXT", default="", help="what to put at the top")
    result.add_argument(
        "--from", dest="first", metavar="NUMBER", type=whole_number, default=0,
        help="begin with the entry of this number",
    )  # fmt: skip
    result.add_argument(
        "--to", dest="last", metavar="NUMBER", type=whole_number, default=sys.maxsize,
        help="end with the entry of this number",
    )  # fmt: skip
    return result


def main(arguments: list[str]) -> int:
    """Run `qmpd timeline`; the result is the exit status."""
    try:
        given = parser().read(arguments)
        if given is None:
            return 0
        if given.file is None:
            raise UsageError("one transcript is drawn (qmpd timeline --help tells more)")
        if not given.output.endswith((".svg", ".html")):
            raise UsageError("-o takes a name that ends in .svg or .html")
        _draw(given.file, given.output, given.title, given.first, given.last)
    except UsageError as error:
        sys.stderr.write(f"qmpd timeline: {error}\n")
        return STATUS
    return 0


def _draw(source: str, output: str, title: str, first: int, last: int) -> None:
    from qmpd.timeline.page import html
    from qmpd.timeline.picture import svg
    from qmpd.timeline.transcript import TranscriptError, read

    try:
        if source == "-":
            entries = read(sys.stdin)
        else:
            with open(source, encoding="utf-8") as file:
                entries = read(file)
        chosen = [entry for entry in entries if first <= entry.number <= last]
        if not chosen:
            raise UsageError(f"{source}: there is nothing to draw")
        draw = svg if output.endswith(".svg") else html
        with open(output, "w", encoding="utf-8") as file:
            file.write(draw(chosen, title))
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
    except (TranscriptError, UnicodeDecodeError) as error:
        raise UsageError(f"{source}: {error}") from None
