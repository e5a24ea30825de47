"""Having an image show what is behind it everywhere, as after a commit.  (QEMU's block/qcow2.c, `qcow2_make_empty`.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.header import write_header

if TYPE_CHECKING:
    from qmpd.block.images.qcow2.image import Qcow2


def empty(image: Qcow2) -> None:
    """Let an image have nothing of its own any more.

    Where nothing but data is in it, its file becomes as short as a new image's.

    :raise ImageError: it contradicts itself.
    :raise OSError: it cannot be written.
    """
    if _holds_data_alone(image):
        _begin_anew(image)
    else:
        image.discard(0, image.size, wholly=True)


def _tables(image: Qcow2) -> int:
    """How many clusters the L1 table takes."""
    return -(-image.header.l1_size * 8 // image.header.cluster_size)


def _holds_data_alone(image: Qcow2) -> bool:
    """Whether there are no snapshots and the like, and the tables of an empty image fit into one block's reach."""
    header = image.header
    others = header.snapshots or header.bitmaps is not None or header.luks is not None or image.external
    return header.version >= 3 and not others and 3 + _tables(image) <= image.refcounts.per_block


def _begin_anew(image: Qcow2) -> None:
    """The header, a table of counts, a block of them and the L1 table, one behind the other, and nothing else.

    Until all is written the image says that it was not closed, so that whoever opens it then repairs it.
    """
    header, storage, size = image.header, image.storage, image.header.cluster_size
    tables = _tables(image)
    header.incompatible |= layout.DIRTY
    write_header(header, storage)
    storage.write(header.l1_offset, bytes(tables * size))
    storage.write(size, bytes((2 + tables) * size))
    header.l1_offset = image.mapping.l1_offset = 3 * size
    header.refcount_offset, header.refcount_clusters = size, 1
    image.mapping.forget()
    write_header(header, storage)
    image.refcounts.begin_anew(2, 3 + tables)
    header.incompatible &= ~layout.DIRTY
    write_header(header, storage)
    storage.truncate((3 + tables) * size)
