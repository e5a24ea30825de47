"""The files of the guest: a file system in memory, which may begin with what is in a folder of the host's."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from qmpd.block.images.errors import failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.common.computer import Computer


class Mode(NamedTuple):
    """What a file is opened for (C's `fopen`)."""

    reads: bool
    writes: bool
    appends: bool = False
    makes: bool = False
    empties: bool = False


_READ, _WRITE, _APPEND = Mode(True, False), Mode(False, True, makes=True, empties=True), Mode(False, True, True, True)
_ALTER, _RENEW = Mode(True, True), Mode(True, True, makes=True, empties=True)
_EXTEND = Mode(True, True, True, True)
MODES: Mapping[str, Mode] = {
    "r": _READ, "rb": _READ, "w": _WRITE, "wb": _WRITE, "a": _APPEND, "ab": _APPEND,
    "r+": _ALTER, "rb+": _ALTER, "r+b": _ALTER, "w+": _RENEW, "wb+": _RENEW, "w+b": _RENEW,
    "a+": _EXTEND, "ab+": _EXTEND, "a+b": _EXTEND,
}  # fmt: skip
"""The modes of guest-file-open."""


class MemoryFiles:
    """A file system in memory: contents by absolute path, None for a folder."""

    def __init__(self, contents: Mapping[str, bytes] | None = None) -> None:
        self._nodes: dict[str, bytearray | None] = {"/": None}
        for path in ("/etc", "/home", "/root", "/tmp", "/var"):
            self._nodes[path] = None
        for path, content in (contents or {}).items():
            self.put(path, content)

    @property
    def used(self) -> int:
        """Bytes of all files."""
        return sum(len(content) for content in self._nodes.values() if content is not None)

    def put(self, path: str, content: bytes) -> None:
        """Have a file with this content, and the folders that it takes."""
        parts = [part for part in path.split("/") if part]
        for count in range(1, len(parts)):
            self._nodes.setdefault("/" + "/".join(parts[:count]), None)
        self._nodes["/" + "/".join(parts)] = bytearray(content)

    def get(self, path: str) -> bytes:
        """A file's content.

        :raise OSError: there is no such file.
        """
        found = self.find(normal(path))
        if found is None:
            raise failure(errno.EISDIR)
        return bytes(found)

    def find(self, path: str) -> bytearray | None:
        """The content of what is at a normal path, None for a folder.

        :raise OSError: there is nothing.
        """
        if path not in self._nodes:
            raise failure(errno.ENOENT)
        return self._nodes[path]

    def open(self, path: str, mode: Mode) -> File:
        """Open a file.

        :raise OSError: the system refuses.
        """
        if not path:
            raise failure(errno.ENOENT)
        place = normal(path)
        try:
            content = self.find(place)
        except FileNotFoundError:
            if not mode.makes:
                raise
            if self.find(place.rpartition("/")[0] or "/") is not None:
                raise failure(errno.ENOTDIR) from None
            content = self._nodes[place] = bytearray()
        if content is None and mode.writes:
            raise failure(errno.EISDIR)
        if content is not None and mode.empties:
            del content[:]
        return File(content, mode)

    def snapshot(self) -> dict[str, str | None]:
        """All of it as plain data: the bytes as latin-1 text."""
        return {path: None if each is None else each.decode("latin-1") for path, each in self._nodes.items()}

    def restore(self, state: Mapping[str, str | None]) -> None:
        """Become what `snapshot` made this of."""
        self._nodes = {path: None if each is None else bytearray(each, "latin-1") for path, each in state.items()}


class FolderFiles(MemoryFiles):
    """Files that begin with what is in a folder of the host's; what the guest changes stays in memory.

    `computer` is that whose folder it is.
    """

    def __init__(self, computer: Computer, folder: str) -> None:
        super().__init__()
        self._computer = computer
        self._folder = folder.rstrip("/")

    def find(self, path: str) -> bytearray | None:
        """See `MemoryFiles`."""
        if path not in self._nodes:
            there = f"{self._folder}{path}"
            if self._computer.is_folder(there):
                self._nodes[path] = None
            elif self._computer.is_plain(there):
                self._nodes[path] = bytearray(self._computer.read(there))
            else:
                raise failure(errno.EACCES)
        return self._nodes[path]


def normal(path: str) -> str:
    """A path from the root, without `.` and `..`."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


class File:
    """An open file in memory; `content` is None for a folder."""

    def __init__(self, content: bytearray | None, mode: Mode) -> None:
        self._content = content
        self._mode = mode
        self._place = 0

    def read(self, count: int) -> bytes:
        """At most so many bytes; fewer at the end.

        :raise OSError: it is not open for that, or a folder.
        """
        if not self._mode.reads:
            raise failure(errno.EBADF)
        if self._content is None:
            raise failure(errno.EISDIR)
        data = bytes(self._content[self._place : self._place + count])
        self._place += len(data)
        return data

    def write(self, data: bytes) -> int:
        """Write bytes; how many were written.

        :raise OSError: it is not open for that.
        """
        content = self._content
        if not self._mode.writes or content is None:
            raise failure(errno.EBADF)
        if self._mode.appends:
            self._place = len(content)
        if data and self._place > len(content):
            content.extend(bytes(self._place - len(content)))
        content[self._place : self._place + len(data)] = data
        self._place += len(data)
        return len(data)

    def seek(self, offset: int, whence: int) -> int:
        """Go elsewhere (0: from the start, 1: from here, 2: from the end); the new place.

        :raise OSError: there is no such place.
        """
        start = (0, self._place, len(self._content or b""))[whence]
        if start + offset < 0:
            raise failure(errno.EINVAL)
        self._place = start + offset
        return self._place
