"""What is in a node, made of its options and of what is in its children."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from qmpd.block.content import Gone
from qmpd.block.drivers.formats import Layered
from qmpd.block.drivers.table import FOREIGN
from qmpd.block.file_sets import number_of_set
from qmpd.block.files import ALL, DiskFile
from qmpd.block.images.errors import CorruptImage, ImageError
from qmpd.block.images.qcow2 import layout
from qmpd.block.images.qcow2.options import check_options
from qmpd.block.nodes import NAMELESS, SECTOR, below
from qmpd.block.permissions import check_writable, cumulative
from qmpd.block.room import have_room
from qmpd.block.values import is_on, number
from qmpd.block.watching import Watched
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.content import Content
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode

    Make = Callable[[BlockNode, BlockGraph], Content]

NULL_SIZE = 1 << 30


def content_of(node: BlockNode, graph: BlockGraph) -> Content:
    """Open what is in a node whose children are open.

    :raise Refusal: it cannot be opened.
    :raise ImageError, OSError: what it is in cannot be read.
    """
    return _MAKE[node.driver](node, graph)


def _null(node: BlockNode, graph: BlockGraph) -> Content:
    from qmpd.block.drivers.null import Null

    size = node.options.get("size")
    if size is None and node.options.get("read-zeroes") is None:
        node.location = f"{node.driver}://"
    return Null(NULL_SIZE if size is None else number(size))


def _file(node: BlockNode, graph: BlockGraph) -> Content:
    node.location = cast("str", node.options["filename"])
    file = DiskFile(
        node.location, node.driver, graph.open_set, read_only=node.read_only, auto_read_only=node.auto_read_only,
        locking=node.options.get("locking") != "off" and not node.force_share, place=node.place,
    )  # fmt: skip
    if node.place:
        node.place = file.hide()
    return file


def _nbd(node: BlockNode, graph: BlockGraph) -> Content:
    from qmpd.block.drivers import nbd

    opened = graph.servers.take(node.options)
    if opened.is_read_only and not node.read_only:
        if not node.auto_read_only:
            opened.close()
            raise Refusal("nbd-read-only")
        node.read_only = True
    node.location = nbd.name_of(node.options)
    return opened


def _raw(node: BlockNode, graph: BlockGraph) -> Content:
    from qmpd.block.drivers.formats import Raw

    file = below(node)
    if node.probed and not node.read_only and graph.report is not None:
        warn_of_probing(node.children["file"].exact_name, graph.report)
    offset, size = number(node.options.get("offset", 0)), node.options.get("size")
    size = None if size is None else number(size)
    # Whole sectors, as far as the last one has begun.
    actual = -(-file.size // SECTOR) * SECTOR
    if offset > actual:
        raise MachineError(graph.texts("raw-offset", offset=offset, size=actual))
    if size is not None and size + offset > actual:
        raise Refusal("raw-size", offset=offset, size=size, actual=actual)
    if "offset" not in node.options and size is None:
        return Raw(file)
    return Raw(file, offset, size)


def warn_of_probing(name: str, report: Callable[[str], None]) -> None:
    """Tell that a disk is taken for one without a format only because none was found in it."""
    report(f"WARNING: Image format was not specified for '{name}' and probing guessed raw.")
    report("         Automatically detecting the format is dangerous for raw images, "
           "write operations on block 0 will be restricted.")  # fmt: skip
    report("         Specify the 'raw' format explicitly to remove the restrictions.")


def _qcow2(node: BlockNode, graph: BlockGraph) -> Content:
    from qmpd.block.recorded import read_qcow2

    content = read_qcow2(node, below(node), below(node, "data-file") if "data-file" in node.children else None)
    check_options(content.header, node.options)
    if "data-file" in node.children and not content.header.incompatible & layout.DATA_FILE:
        raise Refusal("qcow2-data-file")
    if content.header.encryption or node.options.keys() & {"encrypt", "encrypt.format"}:
        from qmpd.block.encrypting import unlock_qcow2

        unlock_qcow2(node, graph, content)
    content.keeps_room = is_on(node.options.get("discard-no-unref"))
    content.passes_snapshots = lambda: is_on(node.options.get("pass-discard-snapshot", True))
    content.passes_on = lambda: is_on(node.options.get("pass-discard-request", node.discard == "unmap"))
    content.tell_corrupt = partial(_tell_corrupt, node, graph)
    return content


def _qed(node: BlockNode, graph: BlockGraph) -> Content:
    from qmpd.block.recorded import read_qed

    return read_qed(node, below(node))


def _foreign(node: BlockNode, graph: BlockGraph) -> Content:
    from qmpd.block.drivers.foreign import Foreign

    found = Foreign(node.driver, below(node))
    if not node.read_only:
        raise NotModelled(f"writing to {node.driver} images; it reads those that are opened read-only")
    return found


def _luks(node: BlockNode, graph: BlockGraph) -> Content:
    from qmpd.block.encrypting import luks_content

    if not node.read_only:
        check_writable(node.children["file"])
    return luks_content(node, graph)


def _tell_corrupt(node: BlockNode, graph: BlockGraph, error: CorruptImage, fatal: bool) -> None:
    """An image contradicts itself: a line for standard error, and then BLOCK_IMAGE_CORRUPTED."""
    what = f"Marking image as corrupt: {error.message}; further corruption events will be suppressed"
    if not fatal:
        what = f"Image is corrupt: {error.message}; further non-fatal corruption events will be suppressed"
    if graph.report is not None:
        graph.report(f"qcow2: {what}")
    name = next((drive.name for drive in node.drives if drive.name), "")
    data: dict[str, object] = {"device": name, "node-name": node.name, "msg": error.message}
    if error.place is not None:
        data |= {"offset": error.place[0], "size": error.place[1]}
    graph.happened.append(("BLOCK_IMAGE_CORRUPTED", {**data, "fatal": fatal}))


def _filter(module: str, name: str) -> Make:
    def make(node: BlockNode, graph: BlockGraph) -> Content:
        from importlib import import_module

        kind: Any = getattr(import_module(f"qmpd.block.drivers.{module}"), name)
        return cast("Content", kind(node, graph))

    return make


_MAKE: dict[str, Make] = {
    "null-co": _null,
    "null-aio": _null,
    "file": _file,
    "host_device": _file,
    "host_cdrom": _file,
    "nbd": _nbd,
    "raw": _raw,
    "qcow2": _qcow2,
    "qed": _qed,
    **dict.fromkeys(FOREIGN, _foreign),
    "luks": _luks,
    "throttle": _filter("filters", "Throttle"),
    "copy-on-read": _filter("filters", "CopyOnRead"),
    "copy-before-write": _filter("saving", "CopyBeforeWrite"),
    "backup-top": _filter("saving", "CopyBeforeWrite"),
    "snapshot-access": _filter("saving", "SnapshotAccess"),
    "compress": _filter("filters", "Compress"),
    "preallocate": _filter("filters", "Preallocate"),
    "blkdebug": _filter("blkdebug", "BlkDebug"),
    "blkverify": _filter("verifying", "BlkVerify"),
    "blklogwrites": _filter("verifying", "BlkLogWrites"),
    "quorum": _filter("verifying", "Quorum"),
}

MADE = frozenset(_MAKE) - {"backup-top"}
"""The drivers of which nodes can be made."""


def _of_job(node: BlockNode) -> Content:
    """What is in a node that a job has put there, which makes itself known to it, or has left."""
    if node.is_left:
        return Gone()
    from qmpd.block.drivers.mirror_top import CommitTop, MirrorTop

    return MirrorTop(below(node)) if node.driver == "mirror_top" else CommitTop(below(node))


def reopen_all(graph: BlockGraph, *, locked: bool) -> None:
    """Open what is in all nodes of a graph that another process has left; its locks are had, too, where `locked`."""
    have_room(len(graph.nodes))
    done: set[str] = set()

    def reopen(node: BlockNode) -> None:
        if node.name in done:
            return
        done.add(node.name)
        for child in node.children.values():
            reopen(child)
        try:
            of_job = node.driver in NAMELESS or node.is_left
            node.content = _of_job(node) if of_job else content_of(node, graph)
        except (Refusal, ImageError, OSError):
            node.content = Gone()
        node.port = Watched(node, graph)
        backing = node.children.get("backing")
        if isinstance(node.content, Layered) and backing is not None:
            node.content.set_backing(backing.port)

    for node in list(graph.nodes.values()):
        reopen(node)
    if locked:
        keep_locked(graph)


def keep_locked(graph: BlockGraph) -> None:
    """Have the locks of all files, whoever else has them."""
    for node in graph.nodes.values():
        if isinstance(node.content, DiskFile):
            does, shares = cumulative(node)
            node.content.keep_locked(does, ALL & ~shares)


def let_go_of_locks(graph: BlockGraph) -> None:
    """Lock no file any more: another process has locked them all, and works on them from now on.

    A file of a descriptor set is one open file in both processes, with the same locks, so these stay.
    """
    for node in graph.nodes.values():
        if isinstance(node.content, DiskFile) and number_of_set(node.content.filename) is None:
            node.content.lock(0, 0)
