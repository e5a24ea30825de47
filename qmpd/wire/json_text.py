"""One JSON value in a text, as QEMU reads it where a value stands on its command line."""

from __future__ import annotations

from qmpd.wire import Decoder, ParseError


def _premature(text: str, dialect: str) -> str:
    """What is said where a value is not complete."""
    if dialect == "classic":
        return "JSON parse error, premature EOI"
    last = text.rpartition("\n")[2]
    # What could go on, a number or a word, ends one place later.
    column = len(last) + (2 if last[-1:].isalnum() else 1)
    return f"{text.count(chr(10)) + 1}:{column}: JSON parse error, premature end of input"


def parse(text: str, dialect: str) -> object:
    """The value.  `dialect` is the release's (`Behaviour.json_parser`).

    :raise ValueError: there is no value, or more than one; the text is QEMU's.
    """
    decoder = Decoder(dialect)
    # A line end finishes a number or a word, which could go on otherwise.
    found = decoder.feed(text.encode("utf-8", "surrogateescape") + b"\n")
    if len(found) > 1 or (found and not decoder.idle and not isinstance(found[0], ParseError)):
        raise ValueError("Expecting at most one JSON value")
    if not found:
        raise ValueError(_premature(text, dialect))
    first = found[0]
    if isinstance(first, ParseError):
        raise ValueError(first.message)
    return first
