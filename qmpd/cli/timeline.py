"""`qmpd timeline`: a transcript as a picture."""

from __future__ import annotations

import sys

from qmpd.option_language.errors import OptionError
from qmpd.option_language.options import Option, scan

_USAGE = """\
usage: qmpd timeline FILE -o OUT.svg|OUT.html [-title TEXT] [-from NUMBER] [-to NUMBER]

Draws the transcript FILE, which qmpd serve -transcript FILE has written: a lane for each
client, the run state as a coloured band, and a mark for each command, reply, event, guest's
step, fault and puppeteer's command.  Time goes downwards.  FILE may be - for standard input.

  -o OUT            what to write: a picture (.svg), or a page (.html) that also shows what is
                    behind each mark, and a table of all entries
  -title TEXT       what to put at the top
  -from NUMBER      begin with the entry of this number
  -to NUMBER        end with the entry of this number
"""

_OPTIONS = {
    name: Option(name, argument, "", None)
    for name, argument in (
        ("o", "OUT"),
        ("title", "TEXT"),
        ("from", "NUMBER"),
        ("to", "NUMBER"),
        ("h", None),
        ("help", None),
    )
}


def _number(name: str, values: dict[str, str], default: int) -> int:
    text = values.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise OptionError(f"'{text}' is no number", f"-{name}")
    return int(text)


def main(arguments: list[str]) -> int:
    """Run `qmpd timeline`; the result is the exit status."""
    try:
        given, files = scan([argument for argument in arguments if argument != "-"], _OPTIONS)
        values = {each.option.name: each.value for each in given}
        if "help" in values or "h" in values:
            print(_USAGE, end="")
            return 0
        if "-" in arguments:
            files.append("-")
        if len(files) != 1:
            raise OptionError("one transcript is drawn (qmpd timeline --help tells more)")
        output = values.get("o", "")
        if not output.endswith((".svg", ".html")):
            raise OptionError("-o takes a name that ends in .svg or .html")
        first, last = _number("from", values, 0), _number("to", values, sys.maxsize)
        _draw(files[0], output, values.get("title", ""), first, last)
    except OptionError as error:
        sys.stderr.write(f"qmpd timeline: {error}\n")
        return 1
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
            raise OptionError(f"{source}: there is nothing to draw")
        draw = svg if output.endswith(".svg") else html
        with open(output, "w", encoding="utf-8") as file:
            file.write(draw(chosen, title))
    except OSError as error:
        raise OptionError(f"{error.filename}: {error.strerror}") from None
    except (TranscriptError, UnicodeDecodeError) as error:
        raise OptionError(f"{source}: {error}") from None
