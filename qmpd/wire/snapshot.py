"""A decoder's state as JSON, for a live update: another process goes on in the middle of a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from qmpd.wire.lexer import START
from qmpd.wire.streamer import NOTHING, ClassicStreamer, PositionsStreamer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.wire.decoder import Decoder
    from qmpd.wire.parser import Parser


def take_snapshot(decoder: Decoder) -> dict[str, object]:
    """What `restore_snapshot` needs: half a message as text that leads to the same half, the rest as it is."""
    streamer = decoder._streamer
    snapshot: dict[str, object] = {
        "dialect": decoder._dialect,
        "line": decoder._line,
        "column": decoder._column,
        "state": decoder._state,
        "partial": decoder._partial.decode("latin-1"),
        "partial_where": list(decoder._partial_where) if decoder._partial else [1, 1],
        "message": streamer.parser.resume_text(_spell),
        "braces": streamer.braces,
        "brackets": streamer.brackets,
        "tokens": streamer.tokens,
        "size": streamer.size,
    }
    if isinstance(streamer, PositionsStreamer):
        snapshot["recovering"] = streamer.recovering
    else:
        snapshot["fault"] = None if streamer.fault is None else streamer.fault.decode("latin-1")
    return snapshot


def restore_snapshot(snapshot: dict[str, Any]) -> Decoder:
    """A decoder in the state of the snapshot.

    :raise KeyError: this is no snapshot of a decoder.
    """
    from qmpd.wire.decoder import Decoder

    decoder = Decoder(snapshot["dialect"])
    streamer = decoder._streamer
    # The text is longer than what QEMU counted for its limits, so it must not pass by the streamer.
    decoder._streamer = _Replay(streamer.parser)  # type: ignore[assignment]
    decoder._scan(snapshot["message"].encode(), 0, [])
    # A space ends a last number, if there is one.
    decoder._scan(b" ", 0, [])
    decoder._streamer = streamer
    decoder._line = snapshot["line"]
    decoder._column = snapshot["column"]
    decoder._state = snapshot["state"]
    decoder._partial = bytearray(snapshot["partial"], "latin-1")
    decoder._partial_where = tuple(snapshot["partial_where"])
    streamer.braces = snapshot["braces"]
    streamer.brackets = snapshot["brackets"]
    streamer.tokens = snapshot["tokens"]
    streamer.size = snapshot["size"]
    if isinstance(streamer, ClassicStreamer):
        fault = snapshot["fault"]
        streamer.fault = None if fault is None else fault.encode("latin-1")
    else:
        streamer.recovering = snapshot["recovering"]
    decoder._clean = decoder._state == START and streamer.idle
    return decoder


class _Replay:
    """In place of a streamer: tokens go straight to the parser."""

    idle = False

    def __init__(self, parser: Parser) -> None:
        self._parser = parser

    def take(self, kind: int, text: bytes) -> object:
        self._parser.feed(kind, text)
        return NOTHING


def _spell(value: object) -> str:
    """JSON text of `value`: members in the order in which they came, doubles exact and infinite ones too large."""
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
