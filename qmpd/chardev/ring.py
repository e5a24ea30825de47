"""The ring of a `ringbuf` device: the last bytes that were written to it, until they are read.

(QEMU's chardev/char-ringbuf.c.)
"""

from __future__ import annotations


class Ring:
    """So many bytes; where there is no room the oldest are lost."""

    __slots__ = ("_content", "size")

    def __init__(self, size: int, content: bytes = b"") -> None:
        self.size = size
        self._content = bytearray()
        self.write(content)

    @property
    def content(self) -> bytes:
        """What has not been read."""
        return bytes(self._content)

    def write(self, data: bytes) -> None:
        """Put bytes behind the others."""
        self._content += data
        del self._content[: max(len(self._content) - self.size, 0)]

    def read(self, most: int) -> bytes:
        """Take out the oldest bytes, so many at most."""
        taken = bytes(self._content[:most])
        del self._content[:most]
        return taken
