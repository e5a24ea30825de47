"""One JSON value in a text, as QEMU reads it where a value stands on its command line."""

from __future__ import annotations

from qmpd.wire import Decoder, ParseError


def parse(text: str, dialect: str) -> object:
    """The value.  `dialect` is the release's (`Behaviour.json_parser`).

    :raise ValueError: there is no value, or more than one; the text is QEMU's.
    """
    decoder = Decoder(dialect)
    # A line end finishes a number or a word, which could go on otherwise.
    found = decoder.feed(text.encode("utf-8", "surrogateescape") + b"\n")
    for each in found:
        if isinstance(each, ParseError):
            raise ValueError(each.message)
    if not decoder.idle or not found:
        raise ValueError("JSON parse error, premature EOI")
    if len(found) > 1:
        raise ValueError("JSON parse error, expecting value")
    return found[0]
