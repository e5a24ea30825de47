"""`snapshot=on`: a drive whose writes go into a temporary image, and whose own image stays as it is.

QEMU's block.c does it so (bdrv_append_temp_snapshot); what the nodes look like was seen with QEMU 5.2 to 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.files import DiskFile, remove, temporary_file
from qmpd.block.flat import Flat
from qmpd.block.opening import Opener
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode

# QEMU's own nodes, while it makes the image, take so many names.
_NAMES_TAKEN = 3
_SECTOR = 512


def as_backing(options: Flat) -> Flat:
    """The options of a drive's node with which it is behind a temporary image: nobody writes to it."""
    return Flat({**{name: value for name, value in options.items() if name != "auto-read-only"}, "read-only": True})


def put_over(graph: BlockGraph, node: BlockNode, *, read_only: bool) -> BlockNode:
    """Put a temporary image over a node; the new node.

    The image has no name in the file system, and ends with the machine.

    :raise Refusal: it cannot be made.
    """
    filename = _create(-(-node.size // _SECTOR) * _SECTOR)
    for _ in range(_NAMES_TAKEN):
        graph.new_name()
    try:
        overlay = Opener(graph).open({
            "driver": "qcow2", "file": {"driver": "file", "filename": filename}, "backing": node.name,
            "read-only": read_only, "cache": {"direct": False, "no-flush": True},
        })  # fmt: skip
    except BaseException:
        remove(filename)
        raise
    file = overlay.children["file"]
    assert isinstance(file.content, DiskFile)
    file.place = file.content.hide()
    return overlay


def _create(size: int) -> str:
    """Make an image of this size, with nothing in it; its name.

    :raise MachineError: it cannot be written.
    """
    from qmpd.block.images.qcow2.creation import Options, create

    try:
        storage, filename = temporary_file()
    except OSError as error:
        raise Refusal("temporary-file", path=error.filename, reason=error.strerror) from None
    try:
        create(storage, Options(size=size))
    except OSError as error:
        remove(filename)
        raise MachineError(f"Could not create temporary overlay '{filename}': {error.strerror}") from None
    finally:
        storage.close()
    return filename
