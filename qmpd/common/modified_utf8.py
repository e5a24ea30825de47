"""Modified UTF-8: the bytes by which QEMU knows a text."""

from __future__ import annotations


def encode_modified(text: str) -> bytes:
    """The bytes by which QEMU knows the string, surrogates included (they can come from a command line)."""
    data = text.encode("utf-8", "surrogatepass")
    return data.replace(b"\x00", b"\xc0\x80") if b"\x00" in data else data
