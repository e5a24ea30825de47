"""The quick way in: whole messages of plain JSON, read by orjson, where it and QEMU agree without doubt.

QEMU's dialect and JSON part company at duplicate keys, `0e1`, noncharacters, nesting, what is between messages, and
wherever a message is malformed. Whatever could be one of these goes to the scanner instead; it is no error to send
something there that would have been plain.
"""

from __future__ import annotations

import re

from orjson import JSONDecodeError, JSONEncodeError, dumps, loads

WHITESPACE = b" \t\r\n"

# Below this neither the count of tokens nor their size can reach a limit. (Nesting: orjson gives up at 254 when it
# writes, long before QEMU.)
PLAIN_SIZE = 1 << 20

# Stands between messages that orjson reads as one list. ASCII input without escapes cannot spell this string.
_MARK = "\u00e9"
_MARK_BETWEEN = f',"{_MARK}",'.encode()

_BACKSLASH = 0x5C
_ZERO_EXPONENT_SOMEWHERE = re.compile(rb"0[eE]")


def plain_message(text: bytes) -> object:
    """The message in `text`, which is ASCII and ends with `}`.

    :raise ValueError: it is not plain, or not one message.
    """
    value: object = loads(text)
    try:
        spelt = dumps(value)
    except JSONEncodeError as error:
        raise ValueError from error
    # What is compact JSON is written as it was read, if nothing is odd about it.
    if spelt == text or _read_alike(text, spelt):
        return value
    raise ValueError


def plain_messages(text: bytes) -> list[object] | None:
    """The messages in `text`, one a line, or None where they are not all plain.

    `text` is ASCII, begins with no whitespace and ends with `}`.
    """
    newlines = text.count(b"\n")
    text = b"[%s]" % text.replace(b"\n", _MARK_BETWEEN)
    try:
        values: list[object] = loads(text)
        spelt = dumps(values)
    except (JSONDecodeError, JSONEncodeError):
        return None
    # All marks have to stand between messages, each message between marks.
    if len(values) != 2 * newlines + 1 or values[1::2].count(_MARK) != newlines:
        return None
    return values[::2] if spelt == text or _read_alike(text, spelt) else None


def take_plain(data: bytes, position: int, messages: list[object]) -> int:
    """Take the plain messages from `position` to the end of the last line that ends with one; the offset after them."""
    end = data.rfind(b"}\n", position) + 1
    if end == 0:
        return position
    text = data[position:end].strip(WHITESPACE)
    plain = plain_messages(text) if text.isascii() and len(text) < PLAIN_SIZE else None
    if plain is None:
        return position
    messages += plain
    return end


def _read_alike(text: bytes, spelt: bytes) -> bool:
    """Whether orjson, which writes as `spelt` what it read in `text`, has read what QEMU reads.

    A duplicate key shows as quotes that are missing, if no quote is escaped. The first pattern is quick, the second
    one sure (numbers do not begin a text that begins with a brace).
    """
    return (
        _BACKSLASH not in text
        and text.count(b'"') == spelt.count(b'"')
        and not (_ZERO_EXPONENT_SOMEWHERE.search(text) and re.search(rb"[-:,\[ \t\r\n]0[eE]", text))
    )
