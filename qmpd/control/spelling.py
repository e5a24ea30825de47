"""Messages of the control socket and entries of the transcript as JSON text, and back, however deep they nest.

Members keep the order of their declaration, unlike in QEMU.  Clients may nest values 1024 deep, which is more than
Python's own encoder and decoder can.
"""

from __future__ import annotations

import json
from typing import Any


class _Text(str):
    """A piece of the result, where values may stand as well."""

    __slots__ = ()


def spell(value: object, *, pretty: bool = False) -> str:
    """`value` as JSON text, in ASCII."""
    try:
        return json.dumps(value, indent=4 if pretty else None)
    except RecursionError:
        return "".join(_pieces(value))


def _pieces(value: object) -> list[str]:
    """The text of a value, in pieces, without recursion."""
    pieces: list[str] = []
    left: list[object] = [value]
    while left:
        each = left.pop()
        if isinstance(each, _Text):
            pieces.append(each)
        elif isinstance(each, dict):
            left.append(_Text("}"))
            for position, (name, member) in reversed(list(enumerate(each.items()))):
                left += [member, _Text(f"{', ' if position else ''}{json.dumps(name)}: ")]
            left.append(_Text("{"))
        elif isinstance(each, list | tuple):
            left.append(_Text("]"))
            for position, item in reversed(list(enumerate(each))):
                left += [item, _Text(", " if position else "")]
            left.append(_Text("["))
        else:
            pieces.append(json.dumps(each))
    return pieces


def read(line: bytes) -> Any:
    """The one value of a line.

    :raise ValueError: it is no JSON.
    """
    try:
        return json.loads(line)
    except RecursionError:
        from qmpd.wire import Decoder, ParseError

        found = Decoder("classic").feed(line)
        if len(found) != 1 or isinstance(found[0], ParseError):
            raise ValueError("it is no JSON") from None
        return found[0]
