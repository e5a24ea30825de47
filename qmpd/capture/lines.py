"""Spelling what is captured: JSON lines, and files that are the same each time."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def spell(value: Any) -> bytes:
    """A value in QEMU's spelling, as far as it has no numbers with a fraction; markers stay as they are."""
    text = json.dumps(value).replace("\x7f", "\\u007F")
    return text.replace("\\u00ab", "«").replace("\\u00bb", "»").encode()


def line(head: dict[str, Any], reply: bytes) -> bytes:
    """An entry with a reply as its last member, kept as it is."""
    return spell(head)[:-1] + b', "reply": ' + reply + b"}"


def write(path: Path, content: bytes) -> bool:
    """Write a file, compressed where its name ends in `.gz`; True where that changed what it says.

    A compressed file that already says the same is left alone: versions of zlib differ in how they say it.
    """
    compressed = path.suffix == ".gz"
    try:
        before: bytes | None = path.read_bytes()
        if compressed and before is not None:
            before = zlib.decompress(before, wbits=31)
    except (OSError, zlib.error):
        before = None
    if before == content:
        return False
    if compressed:
        compressor = zlib.compressobj(9, wbits=31)
        content = compressor.compress(content) + compressor.flush()
    path.write_bytes(content)
    return True


def join(lines: Iterable[bytes]) -> bytes:
    """A file of lines."""
    return b"".join(each + b"\n" for each in lines)
