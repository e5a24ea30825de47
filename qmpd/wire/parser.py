"""From tokens to values: the grammar, fed a token at a time.

Theory. The parser is pushed, it never asks for a token, so that a message may come in any slicing and nesting costs an
entry in a list, not a level of Python's stack. What may come next is `_expect`; the containers that are open are
`_stack`, and `_keys` runs beside it with the key under which an object's next value will be stored. All containers but
the innermost wait for a value.

The two dialects accept the same messages. They differ in the words of their complaints and in one respect more:
releases up to 10.0 first parse whatever stands where a key should be, and so complain about what is wrong inside it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import orjson

from qmpd.wire.lexer import TOKEN_FLOAT, TOKEN_INTEGER, TOKEN_STRING, TOKEN_STRUCTURAL
from qmpd.wire.unicode import decode_strictly, holds_noncharacter, is_character

if TYPE_CHECKING:
    from collections.abc import Callable

# What may come next.
VALUE = 0
FIRST_ELEMENT = 1  # a value or `]`
KEY = 2
FIRST_KEY = 3  # a key or `}`
COLON = 4
SEPARATOR = 5  # a comma or the container's end

# QEMU's limit on open containers.
MAX_NESTING = 1 << 10

# QEMU prints these complaints into a buffer of this size, the final NUL included.
_COMPLAINT_SIZE = 1024


class Complaints(NamedTuple):
    """What a dialect says when something else than expected comes."""

    key: bytes
    colon: bytes
    in_object: bytes
    in_array: bytes
    composite_keys: bool  # parses what stands in place of a key before complaining about it


CLASSIC_COMPLAINTS = Complaints(
    b"key is not a string in object",
    b"missing : in object pair",
    b"expected separator in dict",
    b"expected separator in list",
    composite_keys=True,
)
POSITIONS_COMPLAINTS = Complaints(
    b"expecting key",
    b"expecting ':'",
    b"expected ',' or '}'",
    b"expected ',' or ']'",
    composite_keys=False,
)


class SyntaxFault(Exception):  # noqa: N818 (a fault of the message, not of the program)
    """The message is malformed; `text` says how, in the bytes that QEMU has before it prints them."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text[: _COMPLAINT_SIZE - 1]


class NestedTooDeep(Exception):  # noqa: N818
    """The token would open a container below the deepest that QEMU allows."""


class Parser:
    """Puts one value together, token by token."""

    __slots__ = ("_complaints", "_expect", "_keys", "_stack", "value")

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints
        self._expect = VALUE
        self._stack: list[list[object] | dict[str, object]] = []
        self._keys: list[str | None] = []
        self.value: object = None

    def reset(self) -> None:
        """Forget what was begun."""
        self._expect = VALUE
        self._stack = []
        self._keys = []
        self.value = None

    @property
    def depth(self) -> tuple[int, int]:
        """How many objects and how many arrays are open."""
        arrays = sum(type(container) is list for container in self._stack)
        return len(self._stack) - arrays, arrays

    def feed(self, kind: int, text: bytes) -> bool:
        """Take the next token; true when it completes a value, which then is in `value`.

        :raise SyntaxFault: the token cannot come here, or is malformed inside. The parser is as before the token.
        :raise NestedTooDeep: it is one container too many. The parser is as before the token.
        """
        expect = self._expect
        if kind != TOKEN_STRUCTURAL:
            if expect < KEY:
                return self._store(_scalar(kind, text))
            if expect >= COLON:
                raise self._unexpected()
            if kind != TOKEN_STRING:
                if self._complaints.composite_keys:
                    _scalar(kind, text)
                raise self._unexpected()
            self._keys[-1] = parse_string(text)
            self._expect = COLON
        elif text == b",":
            if expect != SEPARATOR:
                raise self._unexpected(text)
            self._expect = VALUE if type(self._stack[-1]) is list else KEY
        elif text == b":":
            if expect != COLON:
                raise self._unexpected(text)
            self._expect = VALUE
        elif text == b"{":
            self._open({}, FIRST_KEY)
        elif text == b"[":
            self._open([], FIRST_ELEMENT)
        else:
            if expect == SEPARATOR:
                if (text == b"]") != (type(self._stack[-1]) is list):
                    raise self._unexpected()
            elif expect != (FIRST_KEY if text == b"}" else FIRST_ELEMENT):
                raise self._unexpected(text)
            # What is wrong with the place of a container shows at its end; the parser is to be left as it was then.
            value = self._stack.pop()
            key = self._keys.pop()
            try:
                return self._store(value)
            except SyntaxFault:
                self._stack.append(value)
                self._keys.append(key)
                raise
        return False

    def _open(self, container: list[object] | dict[str, object], expect: int) -> None:
        stack = self._stack
        if len(stack) >= MAX_NESTING:
            raise NestedTooDeep
        if self._expect >= KEY:
            if self._expect >= COLON or not self._complaints.composite_keys:
                raise self._unexpected()
            self._keys[-1] = None
        stack.append(container)
        self._keys.append(None)
        self._expect = expect

    def _store(self, value: object) -> bool:
        if not self._stack:
            self.value = value
            return True
        container = self._stack[-1]
        if type(container) is list:
            container.append(value)
        else:
            key = self._keys[-1]
            if key is None:
                raise SyntaxFault(self._complaints.key)
            if key in container:
                raise SyntaxFault(b"duplicate key")
            container[key] = value  # type: ignore[call-overload]
        self._expect = SEPARATOR
        return False

    def _unexpected(self, text: bytes | None = None) -> SyntaxFault:
        """The complaint about a token that cannot come here; `text` where it is one that begins no value."""
        expect = self._expect
        complaints = self._complaints
        if expect == COLON:
            return SyntaxFault(complaints.colon)
        if expect == SEPARATOR:
            return SyntaxFault(complaints.in_array if type(self._stack[-1]) is list else complaints.in_object)
        if expect >= KEY and (text is None or not complaints.composite_keys):
            return SyntaxFault(complaints.key)
        return SyntaxFault(b"expecting value")

    def resume_text(self, write: Callable[[object], str]) -> str:
        """JSON text that brings a fresh parser to the state of this one; `write` spells one value."""
        parts: list[str] = []
        innermost = len(self._stack) - 1
        for depth, (container, key) in enumerate(zip(self._stack, self._keys, strict=True)):
            # Containers but the innermost wait for a value.
            expect = self._expect if depth == innermost else VALUE
            if isinstance(container, list):
                parts.append("[" + ",".join(map(write, container)))
            else:
                parts.append("{" + ",".join(f"{write(name)}:{write(value)}" for name, value in container.items()))
            if expect in (FIRST_KEY, FIRST_ELEMENT, SEPARATOR):
                continue
            if container:
                parts.append(",")
            # A container in place of a key has no key.
            if isinstance(container, dict) and expect != KEY and key is not None:
                parts.append(write(key) if expect == COLON else f"{write(key)}:")
        return "".join(parts)


def _scalar(kind: int, text: bytes) -> object:
    if kind == TOKEN_STRING:
        return parse_string(text)
    if kind == TOKEN_INTEGER:
        return parse_integer(text)
    if kind == TOKEN_FLOAT:
        return float(text)
    if text in _KEYWORDS:
        return _KEYWORDS[text]
    raise SyntaxFault(b"invalid keyword '%s'" % text)


def parse_integer(text: bytes) -> int | float:
    """The number that an integer's text means: 64 bits signed, else 64 bits unsigned, else a double."""
    if len(text) <= 20:
        value = int(text)
        if -0x8000_0000_0000_0000 <= value <= 0xFFFF_FFFF_FFFF_FFFF:
            return value
    return float(text)


_KEYWORDS = {b"true": True, b"false": False, b"null": None}
_HEXADECIMAL = re.compile(rb"[0-9a-fA-F]{4}")
_ESCAPES = dict(zip(b"\"'\\/bfnrt", "\"'\\/\b\f\n\r\t", strict=True))


def parse_string(text: bytes) -> str:
    """The value of a string token, whose quotes are still on.

    :raise SyntaxFault: an escape or an encoding in it is invalid; the first one counts.
    """
    if 0x5C not in text:
        body = text[1:-1]
        plain = body.decode() if body.isascii() else decode_strictly(body)
        if plain is None:
            raise SyntaxFault(b"invalid UTF-8 sequence in string")
        return plain
    # A JSON library agrees wherever it finds nothing wrong, noncharacters aside; the quotes make no difference to it
    # unless they are in the string as well.
    quoted = text if text[0] == 0x22 or b'"' in text else b'"%s"' % text[1:-1]
    try:
        value: str = orjson.loads(quoted)
    except orjson.JSONDecodeError:
        return _parse_string_slowly(text)
    return _parse_string_slowly(text) if holds_noncharacter(value) else value


def _parse_string_slowly(text: bytes) -> str:
    parts: list[str] = []
    position = 1
    end = len(text) - 1
    while True:
        escape = text.find(b"\\", position)
        part = decode_strictly(text[position : end if escape < 0 else escape])
        if part is None:
            raise SyntaxFault(b"invalid UTF-8 sequence in string")
        parts.append(part)
        if escape < 0:
            return "".join(parts)
        character = _ESCAPES.get(text[escape + 1])
        position = escape + 2
        if character is None:
            if text[escape + 1] != 0x75:
                raise SyntaxFault(b"invalid escape sequence in string")
            character, position = _parse_code_point(text, escape)
        parts.append(character)


def _hexadecimal(text: bytes, position: int) -> int:
    digits = _HEXADECIMAL.match(text, position)
    return int(digits[0], 16) if digits else -1


def _parse_code_point(text: bytes, escape: int) -> tuple[str, int]:
    """The character of the `\\uXXXX` at `escape` (or of a surrogate pair of them) and the offset after it."""
    code_point = _hexadecimal(text, escape + 2)
    position = escape + 6
    if 0xD800 <= code_point <= 0xDBFF and text.startswith(b"\\u", position):
        trailing = _hexadecimal(text, position + 2)
        if 0xDC00 <= trailing <= 0xDFFF:
            code_point = 0x10000 + ((code_point & 0x3FF) << 10) + (trailing & 0x3FF)
            position += 6
    if not is_character(code_point):
        # Of an escape that is too short this shows what stands there instead, the string's end quote included.
        raise SyntaxFault(text[escape:position] + b" is not a valid Unicode character")
    return chr(code_point), position
