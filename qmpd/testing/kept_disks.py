"""The disks of a VM that is kept (`VM.snapshot`): copies of the files that it may write to, as they were.

The copies have no names, and take the room that the files' data takes.  A file that has not been written to since is
left alone when the VM goes back.
"""

from __future__ import annotations

import os
import stat
import tempfile
import weakref
from typing import TYPE_CHECKING

from qmpd.block.files import DiskFile
from qmpd.block.images.errors import ImageError
from qmpd.control.errors import ControlError

if TYPE_CHECKING:
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode

MOST = 1 << 30
"""Bytes of data that the disks of a VM may have that is kept."""
_STEP = 1 << 20


class KeptDisks:
    """The files behind the nodes of a graph, as they were."""

    def __init__(self, graph: BlockGraph) -> None:
        """Copy them; nobody may read or write meanwhile.

        :raise ControlError: they cannot be copied.
        """
        self._files: list[_KeptFile] = []
        try:
            for node in graph.newest_first():
                if node.content is not None:
                    node.content.flush()
            nodes = [node for node in graph.nodes.values() if isinstance(node.content, DiskFile) and not node.read_only]
            room = sum(node.allocated or 0 for node in nodes)
            if room > MOST:
                raise ControlError(f"the VM's disks have {room >> 20} MiB of data; {MOST >> 20} can be kept")
            self._files = [_KeptFile(node) for node in nodes]
        except (OSError, ImageError) as error:
            raise ControlError(f"the VM's disks cannot be kept: {error}") from None

    def put_back(self) -> None:
        """Have the files as they were.

        :raise ControlError: one cannot be written.
        """
        for file in self._files:
            try:
                file.put_back()
            except OSError as error:
                raise ControlError(f"the disk {file.name} cannot be as it was: {error.strerror}") from None


class _KeptFile:
    """One file."""

    def __init__(self, node: BlockNode) -> None:
        assert isinstance(node.content, DiskFile)
        self.name = node.location
        if node.place:
            raise ControlError(f"a drive with snapshot=on cannot be kept ({self.name})")
        descriptor = node.content.descriptor
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ControlError(f"a disk that is no regular file cannot be kept ({self.name})")
        # A file of a set of open files has no name of its own.
        self.name = os.path.realpath(f"/proc/self/fd/{descriptor}")
        self._copy, name = tempfile.mkstemp(prefix="qmpd-disk-")
        weakref.finalize(self, os.close, self._copy)
        os.unlink(name)
        _copy(descriptor, self._copy)
        self._seen = _state(descriptor)

    def put_back(self) -> None:
        descriptor = os.open(self.name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if _state(descriptor) != self._seen:
                os.ftruncate(descriptor, 0)
                _copy(self._copy, descriptor)
                self._seen = _state(descriptor)
        finally:
            os.close(descriptor)


def _state(descriptor: int) -> tuple[int, int, int]:
    """What changes where a file is written to."""
    found = os.fstat(descriptor)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _copy(source: int, target: int) -> None:
    """Copy what is in a file, holes as such."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:
            return  # a hole up to the end
        end = os.lseek(source, at, os.SEEK_HOLE)
        while at < end:
            data = os.pread(source, min(_STEP, end - at), at)
            if not data:
                return
            os.pwrite(target, data, at)
            at += len(data)
