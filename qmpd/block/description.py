"""What a qcow2 image says of itself, as queries tell it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from qmpd.block.drivers.formats import Qcow2Content
from qmpd.block.drivers.qed import QedContent
from qmpd.block.drivers.table import DRIVERS, FOREIGN
from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.reading import ReadImage
from qmpd.block.images.qcow2.snapshot_table import read_snapshots
from qmpd.wire import encode

# Those that go by the name of what they are on.
_NAMELESS = ("copy-before-write", "backup-top", "snapshot-access", "mirror_top", "commit_top")

if TYPE_CHECKING:
    from qmpd.block.nodes import BlockNode


def filename_of(node: BlockNode) -> str:
    """What a node is called in queries: a name that opens it again."""
    if node.driver in _NAMELESS and node.children:
        return filename_of(node.children[DRIVERS[node.driver].first])
    return node.exact_name or "json:" + encode(node.full_options).decode()


def passed_through(node: BlockNode) -> BlockNode | None:
    """The node that a filter is on; None where it is none, or one of several."""
    driver = DRIVERS[node.driver]
    if not driver.is_filter:
        return None
    return next((node.children[role] for role in driver.children if role in node.children), None)


def cluster_of(node: BlockNode) -> int | None:
    """The size of the clusters of an image, as what only passes it on tells it, too."""
    at = _with_clusters(node)
    if at is None:
        return None
    if isinstance(at.content, Qcow2Content | QedContent):
        return at.content.header.cluster_size
    return getattr(at.content, "cluster_size", None)


def zeroed_unit_of(node: BlockNode) -> int | None:
    """How many bytes of an image can be said to be zeros: a cluster's, or a subcluster's."""
    at = _with_clusters(node)
    if at is not None and isinstance(at.content, Qcow2Content):
        return at.content.header.zeroed_unit
    return cluster_of(node)


def _with_clusters(node: BlockNode) -> BlockNode | None:
    at: BlockNode | None = node
    while at is not None and at.driver != "quorum":
        if isinstance(at.content, Qcow2Content | QedContent) or at.driver in FOREIGN:
            return at
        driver = DRIVERS[at.driver]
        # Of two that ought to be the same, the one that is right tells.
        below = "raw" if at.driver == "blkverify" else driver.first
        at = at.children.get(below) if driver.is_filter or at.driver == "raw" else None
    return None


def is_encrypted(node: BlockNode) -> bool:
    """Whether the bytes of an image are encrypted."""
    return node.driver == "luks" or getattr(node.content, "encryption", None) is not None


def describe(node: BlockNode) -> dict[str, Any]:
    """The members of `ImageInfo` that a format has of its own."""
    content = node.content
    found: dict[str, Any]
    if isinstance(content, QedContent):
        return {"cluster-size": content.header.cluster_size, **node.image}
    if node.driver in FOREIGN or node.driver == "luks":
        found = {
            "cluster-size": getattr(content, "cluster_size", None),
            "format-specific": getattr(content, "specific", None),
        }
        return {name: value for name, value in found.items() if value is not None}
    if not isinstance(content, Qcow2Content):
        return {}
    found = {
        "cluster-size": content.header.cluster_size,
        "format-specific": {"type": "qcow2", "data": _specific(node, content)},
        **node.image,
    }
    if content.header.snapshots:
        # Another file may have been put below it, which has none.
        with contextlib.suppress(ImageError, OSError):
            image = ReadImage(content.file, read_only=True, data=content.data)
            found["snapshots"] = [each.describe() for each in read_snapshots(image)]
    return found


def _specific(node: BlockNode, content: Qcow2Content) -> dict[str, Any]:
    """QAPI's ImageInfoSpecificQCow2."""
    header = content.header
    specific: dict[str, Any] = {"compat": "0.10" if header.version == 2 else "1.1"}
    if header.data_file is not None:
        specific["data-file"] = header.data_file.decode(errors="surrogateescape")
    if header.incompatible & layout.DATA_FILE:
        specific["data-file-raw"] = bool(header.autoclear & layout.AUTOCLEAR_RAW_DATA)
    specific["compression-type"] = layout.COMPRESSIONS[header.compression]
    if header.version >= 3:
        specific["lazy-refcounts"] = bool(header.compatible & layout.LAZY_REFCOUNTS)
    specific["refcount-bits"] = 1 << header.refcount_order
    if header.version >= 3:
        specific["corrupt"] = bool(header.incompatible & layout.CORRUPT)
        specific["extended-l2"] = header.extended
    if content.encryption is not None:
        specific["encrypt"] = {"format": "luks", **content.encryption[0].describe()}
    if header.version >= 3:
        if header.bitmaps is not None:
            with contextlib.suppress(ImageError, OSError):
                specific["bitmaps"] = _bitmaps(content)
    return specific


def _bitmaps(content: Qcow2Content) -> list[dict[str, Any]]:
    """QAPI's Qcow2BitmapInfo of each bitmap in an image.

    :raise ImageError, OSError: they cannot be read.
    """
    from qmpd.block.images.qcow2.bitmaps import read_directory

    return [
        {
            "flags": [name for name, is_set in (("in-use", each.in_use), ("auto", each.auto)) if is_set],
            "name": each.name,
            "granularity": 1 << each.granularity_bits,
        }
        for each in read_directory(ReadImage(content.file, read_only=True, data=content.data))
    ]
