"""Opening an image: what it says is behind it is noted at its node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.drivers.formats import Qcow2Content
from qmpd.block.drivers.qed import QedContent
from qmpd.block.files import beside
from qmpd.block.images.qcow2.reading import ReadImage
from qmpd.block.images.qcow2.snapshot_table import read_snapshots

if TYPE_CHECKING:
    from qmpd.block.content import Content
    from qmpd.block.nodes import BlockNode


def read_qcow2(node: BlockNode, file: Content, data: Content | None) -> Qcow2Content:
    """The image in a node; what it is called by and what is behind it is noted at the node.

    :raise ImageError: QEMU would not open it.
    :raise OSError: it cannot be read.
    """
    content = Qcow2Content(file, data, read_only=node.read_only or node.inactive)
    header = content.header
    if header.snapshots:
        # QEMU looks at them at once.
        read_snapshots(ReadImage(file, read_only=True, data=data))
    note_backing(node, content)
    return content


def read_qed(node: BlockNode, file: Content) -> QedContent:
    """The QED image in a node; what is behind it is noted at the node.

    :raise ImageError: QEMU would not open it.
    :raise OSError: it cannot be read.
    """
    content = QedContent(file, read_only=node.read_only or node.inactive)
    note_backing(node, content)
    return content


def note_backing(node: BlockNode, content: Qcow2Content | QedContent) -> None:
    """Note at a node what its image says is behind it."""
    header = content.header
    node.image = {}
    node.recorded_backing = ""
    if header.backing is not None:
        name = header.backing.decode(errors="surrogateescape")
        whole = beside(node.children["file"].exact_name, name)
        node.recorded_backing = name
        node.image = {"backing-filename": name, "full-backing-filename": whole}
        if header.backing_format is not None:
            node.image["backing-filename-format"] = header.backing_format.decode(errors="surrogateescape")


def write_backing(node: BlockNode, name: str | None, kind: str | None) -> None:
    """Have an image say that this is behind it, or nothing.

    :raise ImageError, OSError: it cannot be written.
    """
    content = node.content
    if not isinstance(content, Qcow2Content | QedContent):
        return
    content.name_backing(
        None if name is None else name.encode("utf-8", "surrogateescape"),
        None if name is None or kind is None else kind.encode(),
    )
    note_backing(node, content)
