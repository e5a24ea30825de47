"""The expressions that the human monitor takes for numbers: C's, over 64 bits with a sign (QEMU's monitor/hmp.c)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qmpd.common.integers import from_digits
from qmpd.human.errors import Misread

if TYPE_CHECKING:
    from collections.abc import Callable

_BLANKS = re.compile(r"[ \t\n\v\f\r]*")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
_LIMIT = 1 << 64


def signed(number: int) -> int:
    """The number that 64 bits with a sign make of one."""
    return (number + (_LIMIT >> 1)) % _LIMIT - (_LIMIT >> 1)


class Reader:
    """Reads an expression at the beginning of a text; `end` is where it ends."""

    def __init__(self, text: str, start: int = 0) -> None:
        self._text = text
        self.end = start
        self._skip()

    def read(self) -> int:
        """The value of the expression.

        :raise Misread: it is none.
        """
        return self._sum()

    def _skip(self) -> None:
        match = _BLANKS.match(self._text, self.end)
        assert match is not None
        self.end = match.end()

    @property
    def _next(self) -> str:
        return self._text[self.end : self.end + 1]

    def _take(self) -> str:
        taken = self._next
        self.end += 1
        self._skip()
        return taken

    def _sum(self) -> int:
        return self._chain("+-", self._logic)

    def _logic(self) -> int:
        return self._chain("&|^", self._product)

    def _product(self) -> int:
        return self._chain("*/%", self._unary)

    def _chain(self, operators: str, operand: Callable[[], int]) -> int:
        value = operand()
        while self._next and self._next in operators:
            value = signed(_apply(self._take(), value, operand()))
        return value

    def _unary(self) -> int:
        match self._next:
            case "+":
                self._take()
                return self._unary()
            case "-":
                self._take()
                return signed(-self._unary())
            case "~":
                self._take()
                return ~self._unary()
            case "(":
                self._take()
                value = self._sum()
                if self._take() != ")":
                    raise Misread("')' expected")
                return value
            case "'":
                return self._character()
            case "$":
                raise Misread("unknown register")
            case "":
                raise Misread("unexpected end of expression")
        return self._number()

    def _character(self) -> int:
        text = self._text[self.end + 1 : self.end + 3]
        if not text:
            raise Misread("character constant expected")
        if text[1:] != "'":
            raise Misread("missing terminating ' character")
        self.end += 3
        self._skip()
        return ord(text[0])

    def _number(self) -> int:
        match = _NUMBER.match(self._text, self.end)
        if match is None:
            raise Misread(f"invalid char '{self._next}' in expression")
        digits = match[0]
        base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
        value = from_digits(digits) if base == 10 else int(digits, base)
        if value >= _LIMIT:
            raise Misread("number too large")
        self.end = match.end()
        self._skip()
        return signed(value)


def _apply(operator: str, left: int, right: int) -> int:
    if operator in "/%" and right == 0:
        raise Misread("division by zero")
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "&":
            return left & right
        case "|":
            return left | right
        case "^":
            return left ^ right
        case "*":
            return left * right
    quotient = abs(left) // abs(right)
    quotient = quotient if (left < 0) == (right < 0) else -quotient
    return quotient if operator == "/" else left - quotient * right
