"""A scanner's state as JSON, for a live update: another process goes on in the middle of a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from qmpd.wire.scanner import Scanner

if TYPE_CHECKING:
    from collections.abc import Iterator


def take_snapshot(scanner: Scanner) -> dict[str, object]:
    """What `restore_snapshot` needs: half a message as text that leads to the same half, the rest as it is."""
    streamer = scanner.streamer
    return {
        "state": scanner.state,
        "partial": scanner.partial.decode("latin-1"),
        "partial_where": list(scanner.partial_where) if scanner.partial else [1, 1],
        "message": streamer.parser.resume_text(text_of),
        "braces": streamer.braces,
        "brackets": streamer.brackets,
        "tokens": streamer.tokens,
        "size": streamer.size,
        "doomed": streamer.doomed,
        "fault": streamer.fault.decode("latin-1"),
    }


def restore_snapshot(snapshot: dict[str, Any], *, positions: bool, line: int, column: int) -> Scanner:
    """A scanner in the state of the snapshot, `line` and `column` being those of the next byte.

    :raise KeyError: this is no snapshot of a scanner.
    """
    scanner = Scanner(positions=positions, line=line, column=column)
    streamer = scanner.streamer
    # The text may be longer than what came, and must not reach a limit: what did come is set below. The space ends a
    # number or keyword, if the text ends in one.
    streamer.size = -(1 << 60)
    scanner.scan(snapshot["message"].encode() + b" ", 0, [])
    scanner.line = line
    scanner.column = column
    scanner.state = snapshot["state"]
    scanner.partial = bytearray(snapshot["partial"], "latin-1")
    scanner.partial_where = tuple(snapshot["partial_where"])
    streamer.braces = snapshot["braces"]
    streamer.brackets = snapshot["brackets"]
    streamer.tokens = snapshot["tokens"]
    streamer.size = snapshot["size"]
    streamer.doomed = snapshot["doomed"]
    streamer.fault = snapshot["fault"].encode("latin-1")
    return scanner


def text_of(value: object) -> str:
    """JSON text of what a client has sent: members in the order in which they came, doubles exact and infinite ones
    too large; it may nest as deep as a message."""
    parts: list[str] = []
    # Nesting can be deeper than Python may recurse: the open containers' remaining parts are kept here.
    pending: list[Iterator[tuple[str, object]]] = [iter([("", value)])]
    closing = [""]
    while pending:
        for prefix, item in pending[-1]:
            parts.append(prefix)
            if isinstance(item, dict):
                parts.append("{")
                closing.append("}")
                pending.append(_members(item))
                break
            if isinstance(item, list):
                parts.append("[")
                closing.append("]")
                pending.append(_elements(item))
                break
            if isinstance(item, float):
                parts.append(repr(item).replace("inf", "1e999"))
            else:
                parts.append(orjson.dumps(item).decode())
        else:
            pending.pop()
            parts.append(closing.pop())
    return "".join(parts)


def _members(value: dict[str, object]) -> Iterator[tuple[str, object]]:
    separator = ""
    for key, item in value.items():
        yield f"{separator}{orjson.dumps(key).decode()}:", item
        separator = ","


def _elements(value: list[object]) -> Iterator[tuple[str, object]]:
    separator = ""
    for item in value:
        yield separator, item
        separator = ","
