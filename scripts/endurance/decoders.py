"""The decoder's ways compared: fed whole, byte by byte, in slices, through snapshots; orjson, where that can read."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import orjson

from qmpd.wire import Decoder, ParseError, encode
from qmpd.wire.plain import plain_message, plain_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DIALECTS = ("classic", "positions")
BETWEEN = b"\n"

MORE_THAN_JSON = ("duplicate key", "not a valid Unicode character", "invalid UTF-8", "nesting", "limit", "stray")
"""What QEMU may complain about in a text that orjson reads; `0e1` ends up among the strays."""


def told(messages: Iterable[object]) -> str:
    """Messages as text in which all that differs shows: types, the order of members, the sign of zero."""
    return repr([("complaint", each.message) if isinstance(each, ParseError) else each for each in messages])


def fed(dialect: str, pieces: Iterable[bytes]) -> tuple[list[object], Decoder]:
    """The messages in `pieces`, and the decoder afterwards."""
    decoder = Decoder(dialect)
    messages: list[object] = []
    for piece in pieces:
        messages += decoder.feed(piece)
    return messages, decoder


def compare(data: bytes, pieces: list[bytes], dialect: str) -> str | None:
    """None where all ways agree on `data`; else what they make of it."""
    exact, decoder = fed(dialect, [bytes([octet]) for octet in data])
    wanted = told(exact)
    # What comes next shows what state the last byte has left.
    probe = b'"}]}\n{"execute":"x"}\n\xff{"y":1}\n'
    after = told(decoder.feed(probe))
    for way, found in _ways(data, pieces, dialect):
        messages, other = found
        if told(messages) != wanted:
            return f"{dialect}, {way}: {told(messages)}\nbyte by byte: {wanted}"
        if (later := told(other.feed(probe))) != after:
            return f"{dialect}, {way}, what follows: {later}\nbyte by byte: {after}"
    return _json_libraries(data, exact, dialect) or _encodes(exact)


def _ways(data: bytes, pieces: list[bytes], dialect: str) -> Iterable[tuple[str, tuple[list[object], Decoder]]]:
    yield "fed whole", fed(dialect, [data])
    yield "in slices", fed(dialect, pieces)
    messages: list[object] = []
    decoder = Decoder(dialect)
    for piece in pieces:
        messages += decoder.feed(piece)
        decoder = Decoder.restore(json.loads(json.dumps(decoder.snapshot())))
    yield "through snapshots", (messages, decoder)


def _json_libraries(data: bytes, exact: list[object], dialect: str) -> str | None:
    text = data.strip(b" \t\r\n")
    if not (text.startswith(b"{") and text.endswith(b"}")):
        return None
    if text.isascii():
        for plain in (_one(plain_message, text), plain_messages(text)):
            if plain is not None and told(plain) != told(exact):
                return f"{dialect}, the quick way: {told(plain)}\nbyte by byte: {told(exact)}"
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if len(exact) == 1 and not isinstance(exact[0], ParseError):
        return None if told([value]) == told(exact) else f"orjson: {told([value])}\n{dialect}: {told(exact)}"
    complaints = [each.message for each in exact if isinstance(each, ParseError)]
    if complaints and any(reason in complaints[0] for reason in MORE_THAN_JSON):
        return None
    if b"0e" in text.lower():
        return None
    return f"orjson: {told([value])}\n{dialect}: {told(exact)}"


def _one(read: Callable[[bytes], object], text: bytes) -> list[object] | None:
    try:
        return [read(text)]
    except ValueError:
        return None


def _finite(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _encodes(messages: list[object]) -> str | None:
    """What was read can be written, and is read as the same again (a float may come back as an integer)."""
    for message in messages:
        if isinstance(message, ParseError) or not _finite(message):
            continue
        text = encode(message)
        again, _ = fed("classic", [text + BETWEEN])
        if len(again) != 1 or again[0] != message:
            return f"read {message!r}\nwritten {text!r}\nread again {told(again)}"
    return None
