"""Opening the nodes of the block graph: what a file's size is, and what a format's header says.

A file is looked at and never written.  (QEMU's block/file-posix.c, block/raw-format.c, docs/interop/qcow2.rst.)
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any, cast

from qmpd.block.graph import BlockNode, check_writable
from qmpd.block.qcow2 import MAGIC, Image, read_image
from qmpd.common.refusals import NotModelled
from qmpd.machine.errors import MachineError
from qmpd.wire import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.block.graph import BlockGraph
    from qmpd.common.texts import Texts

    Options = Mapping[str, Any]

_NULL_SIZE = 1 << 30
_NULL = ("null-co", "null-aio")
_FORMATS = ("raw", "qcow2")
_FILES = ("file", "host_device", "host_cdrom")
# What a node below another takes from it, where it is not told otherwise.
_INHERITED = ("read-only", "cache", "auto-read-only")


class Opener:
    """Opens nodes of one graph."""

    __slots__ = ("_graph",)

    def __init__(self, graph: BlockGraph) -> None:
        self._graph = graph

    def open(self, options: Options, *, owned: bool = False) -> BlockNode:
        """Open a node and what is below it, and put them into the graph.

        :raise MachineError: it cannot be opened.
        """
        driver = cast("str", options["driver"])
        if driver not in _NULL + _FILES + _FORMATS:
            raise NotModelled(f"block driver {driver}")
        # What is below comes first: QEMU opens it to look at what it is.
        child = self._child(options["file"], options) if driver in _FORMATS else None
        try:
            node = self._prepare(driver, options, owned=owned)
            # The name is used up even where the node cannot be opened.
            node.name = node.name or self._graph.new_name()
            if driver in _NULL:
                _open_null(node, options)
            elif driver in _FILES:
                _open_file(node, options)
            elif child is not None:
                node.children["file"] = child
                if driver == "qcow2" and not node.read_only:
                    check_writable(child)
                if driver == "raw":
                    _open_raw(node, child, options, self._graph.texts)
                else:
                    _open_qcow2(node, child, options)
        except MachineError:
            if child is not None:
                self._drop(child)
            raise
        self._graph.add(node)
        if driver == "qcow2":
            self._open_backing(node, options)
            backing = node.children.get("backing")
            if (None if backing is None else backing.filename) != node.image.get("full-backing-filename"):
                node.filename = _described(full_options(node))
        return node

    def _prepare(self, driver: str, options: Options, *, owned: bool) -> BlockNode:
        """A node that is not open yet.

        :raise MachineError: what every node can be told is wrong.
        """
        if options.get("detect-zeroes") == "unmap" and options.get("discard") not in ("unmap", "on"):
            raise MachineError(
                "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap"
            )
        name = options.get("node-name")
        if name is not None:
            self._graph.check_name(name)
        cache = options.get("cache") or {}
        return BlockNode(
            name or "",
            driver,
            "",
            0,
            read_only=bool(options.get("read-only")),
            detect_zeroes=options.get("detect-zeroes", "off"),
            direct=bool(cache.get("direct")),
            no_flush=bool(cache.get("no-flush")),
            owned=owned,
        )

    def _child(self, reference: object, parent: Options) -> BlockNode:
        """The node that a reference names, or that it describes."""
        if isinstance(reference, str):
            return self._graph.find(reference)
        options = cast("dict[str, Any]", reference)
        inherited = {name: parent[name] for name in _INHERITED if name in parent and name not in options}
        return self.open({"discard": "unmap", **inherited, **options})

    def _drop(self, node: BlockNode) -> None:
        self._graph.release(node)

    def _open_backing(self, node: BlockNode, options: Options) -> None:
        filename = node.image.get("full-backing-filename")
        reference = options.get("backing", filename)
        if reference is None:
            return
        if filename is not None and "backing" not in options:
            protocol, colon, _ = filename.partition("/")[0].partition(":")
            if colon:
                self._graph.release(node, always=True)
                raise MachineError(f"Could not open backing file: qmpd does not model protocol {protocol}")
            kind = node.image.get("backing-filename-format") or _probe(filename)
            reference = {"driver": kind, "file": {"driver": "file", "filename": filename}}
        try:
            child = self._child(reference, {"read-only": True})
        except MachineError as error:
            self._graph.release(node, always=True)
            raise MachineError(f"Could not open backing file: {error.message}") from None
        node.children["backing"] = child
        child.parents.append(node)


def of_file(filename: str, driver: str | None, *, read_only: bool) -> dict[str, Any]:
    """The options of the node that stands for a file's name; its format is looked for where none is told."""
    protocol = next((each for each in _NULL if filename.startswith(f"{each}://")), None)
    file = {"driver": "file", "filename": filename} if protocol is None else {"driver": protocol}
    return {"driver": driver or _probe(filename), "file": file, "read-only": read_only}


def _probe(filename: str) -> str:
    """The format of a backing file whose format is not told."""
    try:
        with open(filename, "rb") as file:
            return "qcow2" if file.read(len(MAGIC)) == MAGIC else "raw"
    except (OSError, ValueError):
        return "raw"


def _open_null(node: BlockNode, options: Options) -> None:
    size = options.get("size")
    node.size = _NULL_SIZE if size is None else size
    node.allocated = 0
    node.filename = f"{node.driver}://" if size is None else _described(full_options(node))


def _open_file(node: BlockNode, options: Options) -> None:
    filename = cast("str", options["filename"])
    node.filename = filename
    wanted = os.R_OK if node.read_only else os.R_OK | os.W_OK
    try:
        found = os.stat(filename)
        if not os.access(filename, wanted):
            if options.get("auto-read-only") and os.access(filename, os.R_OK):
                node.read_only = True
            else:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise MachineError(f"Could not open '{filename}': {error.strerror}") from None
    except ValueError:
        raise MachineError(f"Could not open '{filename}': {os.strerror(errno.ENOENT)}") from None
    kinds = (stat.S_ISREG,) if node.driver == "file" else (stat.S_ISBLK, stat.S_ISCHR)
    if not any(kind(found.st_mode) for kind in kinds):
        if stat.S_ISDIR(found.st_mode):
            raise MachineError(f"Could not open '{filename}': Is a directory")
        expected = "a regular file" if node.driver == "file" else "either a character or block device"
        raise MachineError(f"'{node.driver}' driver requires '{filename}' to be {expected}")
    node.size = found.st_size if node.driver == "file" else _device_size(filename)
    node.allocated = found.st_blocks * 512
    if options.get("locking") != "off":
        node.locked_file = found.st_dev, found.st_ino


def _device_size(path: str) -> int:
    """How large a device of the host is, as far as it can be seen."""
    try:
        with open(path, "rb") as device:
            return device.seek(0, os.SEEK_END)
    except OSError:
        return 0


def _open_raw(node: BlockNode, child: BlockNode, options: Options, texts: Texts) -> None:
    offset, size = options.get("offset", 0), options.get("size")
    if offset > child.size:
        raise MachineError(texts("raw-offset", offset=offset, size=child.size))
    if size is not None and size + offset > child.size:
        raise MachineError(
            f"The sum of offset ({offset}) and size ({size}) has to be smaller or equal to the "
            f" actual size of the containing file ({child.size})"
        )
    node.size = child.size - offset if size is None else size
    node.allocated = child.allocated
    node.image = {key: value for key, value in child.image.items() if key == "limits"}
    extra = {key: options[key] for key in ("offset", "size") if key in options}
    node.filename = child.filename
    if extra or child.filename.startswith("json:"):
        node.filename = _described({**extra, "driver": "raw", "file": full_options(child)})


def _open_qcow2(node: BlockNode, child: BlockNode, options: Options) -> None:
    node.has_metadata = True
    image = _image(child, read_only=node.read_only)
    node.size = image.size
    node.allocated = child.allocated
    node.filename = child.filename
    node.image = {"cluster-size": image.cluster_size, "format-specific": {"type": "qcow2", "data": image.specific}}
    if image.snapshots:
        node.image["snapshots"] = image.snapshots
    if image.backing is not None:
        backing = image.backing
        whole = backing if ":" in backing else os.path.join(os.path.dirname(child.filename), backing)
        node.image |= {"backing-filename": backing, "full-backing-filename": whole}
        if image.backing_format:
            node.image["backing-filename-format"] = image.backing_format


def _image(child: BlockNode, *, read_only: bool) -> Image:
    """What the file below a format says."""
    if child.driver not in _FILES:
        return read_image(lambda offset, length: b"", read_only=read_only)
    try:
        with open(child.filename, "rb") as file:

            def read(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            return read_image(read, read_only=read_only)
    except OSError as error:
        raise MachineError(f"Could not read '{child.filename}': {error.strerror}") from None


def full_options(node: BlockNode) -> dict[str, Any]:
    """The options that would open a node again."""
    if node.driver in _NULL:
        return {"driver": node.driver} if node.size == _NULL_SIZE else {"driver": node.driver, "size": node.size}
    if node.driver in _FILES:
        return {"driver": node.driver, "filename": node.filename}
    options: dict[str, Any] = {"driver": node.driver, "file": full_options(node.children["file"])}
    backing = node.children.get("backing")
    if (None if backing is None else backing.filename) != node.image.get("full-backing-filename"):
        options["backing"] = None if backing is None else full_options(backing)
    return options


def _described(options: dict[str, Any]) -> str:
    return "json:" + encode(options).decode()
