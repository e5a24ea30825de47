"""Persistent bitmaps: in the image while it is closed, in memory while it is open.  (QEMU's block/qcow2-bitmap.c.)

An image that is open to be written says of each of its bitmaps that it is in use, so that one that was not closed has
none that could be believed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from qmpd.block.bitmaps.bitmap import DirtyBitmap
from qmpd.block.content import Gone, text_of
from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2 import bitmaps as images
from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.reading import ReadImage
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from qmpd.block.images.qcow2.header import Header
    from qmpd.block.images.qcow2.image import Qcow2
    from qmpd.block.images.storage import Storage
    from qmpd.block.nodes import BlockNode


class Holder(Protocol):
    """What is in a node whose format has room for bitmaps."""

    file: Storage
    data: Storage | None
    header: Header

    @property
    def image(self) -> Qcow2:
        """The image, open."""

    @property
    def is_to_be_flushed(self) -> bool:
        """Whether something is to be flushed before it is closed."""

    def flush(self) -> None:
        """Return when all that was written survives."""


def _holder(node: BlockNode) -> Holder | None:
    """What is in a node, where its format has room for bitmaps."""
    is_there = node.driver == "qcow2" and not isinstance(node.content, Gone | None)
    return cast("Holder", node.content) if is_there else None



def may_store(node: BlockNode, name: str, granularity: int) -> None:
    """Refuse to make a bitmap that the node's image cannot hold.

    :raise Refusal: it cannot.
    """
    content = _holder(node)
    if content is None:
        raise Refusal("bitmap-store-unsupported", node=node.name)
    if any(each.name == name for each in node.bitmaps):
        raise Refusal("bitmap-exists", name=name)
    try:
        if not content.header.may_have_bitmaps:
            raise Refusal("bitmap-store-version")
        _check_constraints(content, node.virtual_size, granularity)
        persistent = [each for each in node.bitmaps if each.persistent]
        if len(persistent) + 1 > layout.MOST_BITMAPS:
            raise Refusal("bitmap-store-number")
    except Refusal as why:
        raise Refusal("bitmap-store", name=name, node=node.name, why=why) from None


def _check_constraints(content: Holder, size: int, granularity: int) -> None:
    if granularity > 1 << layout.LARGEST_GRANULARITY_BITS:
        raise Refusal("bitmap-store-granularity", most=1 << layout.LARGEST_GRANULARITY_BITS)
    length = -(-size // (8 * granularity))
    if length > min(layout.LARGEST_BITMAP, layout.LARGEST_BITMAP_TABLE * content.header.cluster_size):
        raise Refusal("bitmap-store-size")


# Opening


def load(node: BlockNode) -> None:
    """Take the bitmaps of an image that has been opened into memory, but for those there, and mark them as in use.

    :raise ImageError: the image has them in a way that QEMU would not read.
    :raise OSError: they cannot be read.
    """
    content = _holder(node)
    if content is None or content.header.bitmaps is None:
        return
    image = ReadImage(content.file, read_only=True, data=content.data) if node.read_only else content.image
    stored = images.read_directory(image)
    there = {each.name for each in node.bitmaps}
    found = [_loaded(node, image, each) for each in stored if each.name not in there]
    node.bitmaps[:0] = reversed(found)
    if not node.read_only:
        _mark(image, stored)


def _loaded(node: BlockNode, image: ReadImage, stored: images.StoredBitmap) -> DirtyBitmap:
    bitmap = DirtyBitmap(stored.name, 1 << stored.granularity_bits, node.virtual_size, enabled=stored.auto)
    bitmap.persistent = True
    bitmap.inconsistent = stored.in_use
    bitmap.read_only = node.read_only
    if not stored.in_use:
        for place, content in images.parts(image, stored):
            bitmap.write_bits(place, content)
    return bitmap


def _mark(image: ReadImage, stored: list[images.StoredBitmap]) -> None:
    if any(not each.in_use for each in stored):
        for each in stored:
            each.in_use = True
        images.rewrite_directory(image, stored)


def make_writable(node: BlockNode) -> None:
    """The image may be written from now on: its bitmaps, too, which are in use then.

    :raise ImageError, OSError: that cannot be noted in the image.
    """
    content = _holder(node)
    if content is None or not any(each.persistent for each in node.bitmaps):
        return
    if content.header.bitmaps is not None:
        _mark(content.image, images.read_directory(content.image))
    for bitmap in node.bitmaps:
        bitmap.read_only = False


# Closing


def _is_to_be_stored(bitmap: DirtyBitmap) -> bool:
    is_whole = not (bitmap.inconsistent or bitmap.is_awaited)
    return bitmap.persistent and bitmap.stored and is_whole and not bitmap.read_only


def store(node: BlockNode) -> None:
    """Write the persistent bitmaps to the image.

    :raise ImageError, OSError: they cannot be.
    """
    content = _holder(node)
    wanted = [each for each in node.bitmaps if _is_to_be_stored(each)]
    if not wanted or content is None:
        return
    if node.read_only:
        raise ImageError("No write access")
    image = content.image
    directory = images.read_directory(image)
    by_name = {each.name: each for each in directory}
    old: list[images.StoredBitmap] = []
    for bitmap in wanted:
        assert bitmap.name is not None
        entry = by_name.get(bitmap.name)
        if entry is None:
            entry = images.StoredBitmap(bitmap.name, 0, in_use=False, auto=False)
            directory.append(entry)
        elif not entry.in_use:
            raise ImageError(f"Bitmap '{bitmap.name}' already exists in the image")
        else:
            old.append(images.StoredBitmap(entry.name, entry.granularity_bits, True, True, entry.table_offset,
                                           entry.table_size))  # fmt: skip
        entry.granularity_bits = bitmap.granularity.bit_length() - 1
        entry.in_use, entry.auto = False, bitmap.enabled
        images.store(image, entry, bitmap.read_bits, bitmap.next_bits)
    images.write_directory(image, directory)
    for entry in old:
        images.release(image, entry)


def store_to_close(node: BlockNode) -> list[str]:
    """The same, and all else that is still to be written, for a node that is closed; lines that tell what was lost."""
    lost = []
    try:
        store(node)
    except (ImageError, OSError) as error:
        lost.append(f"Lost persistent bitmaps during inactivation of node '{node.name}': {text_of(error)}")
    content = _holder(node)
    if content is not None and content.is_to_be_flushed:
        try:
            content.flush()
        except (ImageError, OSError) as error:
            lost += [f"Failed to flush the {cache} cache: {text_of(error)}" for cache in ("L2 table", "refcount block")]
    return lost


def let_go(node: BlockNode) -> None:
    """What was stored is in the image alone from now on: the node is another machine's."""
    node.bitmaps[:] = [each for each in node.bitmaps if not _is_to_be_stored(each)]


def make_read_only(node: BlockNode) -> None:
    """The image will not be written any more: store its bitmaps, which stay, and cannot change.

    :raise ImageError, OSError: they cannot be stored.
    """
    store(node)
    for bitmap in node.bitmaps:
        if bitmap.persistent:
            bitmap.read_only = True


def remove(node: BlockNode, name: str) -> None:
    """Take a bitmap out of the image, where it is in it.

    :raise ImageError, OSError: it cannot be.
    """
    content = _holder(node)
    if content is None or content.header.bitmaps is None:
        return
    image = content.image
    directory = images.read_directory(image)
    left = [each for each in directory if each.name != name]
    if len(left) < len(directory):
        images.write_directory(image, left)
        for each in directory:
            if each.name == name:
                images.release(image, each)


def is_in_image(node: BlockNode, bitmap: DirtyBitmap) -> bool:
    """Whether the image knows of a bitmap already."""
    content = _holder(node)
    if content is None or content.header.bitmaps is None:
        return False
    image = ReadImage(content.file, read_only=True, data=content.data)
    return any(each.name == bitmap.name for each in images.read_directory(image))
