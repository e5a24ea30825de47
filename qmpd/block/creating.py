"""New images in new files, with the options that a command leaves at their defaults.

(QEMU's block.c, bdrv_img_create.)
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from qmpd.block.filenames import parse
from qmpd.block.files import new_file
from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2.creation import Options, create
from qmpd.block.images.qed import create as create_qed
from qmpd.common.refusals import NotModelled
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Collection

    from qmpd.block.graph import BlockGraph

# What QEMU makes images of that can have something behind them, and images that cannot.
_WITH_BACKING = frozenset({"qcow2", "qed", "qcow", "vmdk"})
_WITHOUT_BACKING = frozenset({"raw", "file", "luks", "vdi", "vpc", "vhdx", "parallels"})
# How often the graph changes as somebody comes to a node to make an image there, and leaves it.
_THROUGH_NODE = 2
# Formats whose images are written through a node of their file, which is closed then.
_WITH_TABLES = frozenset({"qcow2", "qed"})
_MADE = ("qcow2", "raw", "file", "qed")


def note_image(graph: BlockGraph, kind: str) -> None:
    """Jobs see that an image is made through the node of its file."""
    graph.changed(_THROUGH_NODE)
    graph.changed_as(f"image-{kind}")


class NewImage:
    """An image that is to be made: `size` in bytes, `backing` and `backing_format` what is behind it, None for nothing.

    What is wrong with it without a look at the disk is refused at once; `make` makes it.
    """

    def __init__(
        self, filename: str, kind: str, size: int, drivers: Collection[str], backing: str | None = None,
        backing_format: str | None = None,
    ) -> None:  # fmt: skip
        """`drivers`: those that the release has.

        :raise Refusal: there can be no such image.
        """
        self.filename = filename
        self.kind = kind
        self.size = size
        self.backing = backing
        self.backing_format = backing_format
        self._check(drivers)

    def _check(self, drivers: Collection[str]) -> None:
        if self.kind not in drivers and self.kind not in _MADE:
            raise MachineError(f"Unknown file format '{self.kind}'")
        where = parse(self.filename) if self.filename else {"driver": "file", "filename": ""}
        if where["driver"] not in ("file", "host_device"):
            raise MachineError(f"Protocol driver '{where['driver']}' does not support image creation")
        self._path = str(where["filename"])
        if self.kind not in _WITH_BACKING | _WITHOUT_BACKING:
            raise MachineError(f"Format driver '{self.kind}' does not support image creation")
        if self.backing is not None and self.kind in _WITHOUT_BACKING:
            raise MachineError(f"Backing file not supported for file format '{self.kind}'")
        if self.backing == self.filename:
            raise MachineError("Error: Trying to create an image with the same filename as the backing file")
        if self.kind not in _MADE:
            raise NotModelled(f"new images of format {self.kind}")

    def announcement(self) -> str:
        """What QEMU prints as it begins."""
        told: dict[str, object] = {"fmt": self.kind}
        if self.kind == "qcow2":
            told |= {"cluster_size": 65536, "extended_l2": "off", "compression_type": "zlib"}
        told["size"] = self.size
        if self.backing is not None:
            told["backing_file"] = self.backing
        if self.backing_format is not None:
            told["backing_fmt"] = self.backing_format
        if self.kind == "qed":
            told["cluster_size"] = 65536
        if self.kind == "qcow2":
            told |= {"lazy_refcounts": "off", "refcount_bits": 16}
        return f"Formatting '{self.filename}', {' '.join(f'{name}={value}' for name, value in told.items())}\n"

    def note(self, graph: BlockGraph) -> None:
        """It is made: jobs see the nodes that come and go meanwhile."""
        if self.kind in _WITH_TABLES:
            note_image(graph, self.kind)
            graph.changed()

    def make(self) -> None:
        """Make it; what the file held before is gone.

        :raise ImageError: it cannot be made.
        :raise OSError: it cannot be written.
        """
        file = new_file(self._path)
        try:
            file.truncate(0)
            if self.kind in ("raw", "file"):
                file.truncate(self.size)
            elif self.kind == "qed":
                create_qed(file, self.size, self.backing, self.backing_format)
            else:
                create(file, Options(size=self.size, backing=self.backing, backing_format=self.backing_format)).flush()
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise ImageError(f"The image size is too large for file format '{self.kind}'") from None
            raise
        finally:
            # A process that is just being started may have the file for a moment, and its locks.
            file.lock(0, 0)
            file.close()
