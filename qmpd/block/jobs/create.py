"""blockdev-create and x-blockdev-amend: jobs that make an image, or change what it is.  (block/create.c, amend.c.)

They are no block jobs, cannot be paused, and their result has to be dismissed by hand.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, ClassVar

from qmpd.block.content import text_of
from qmpd.block.creating import note_image
from qmpd.block.files import ALL, READ, UNCHANGED, DiskFile, new_file
from qmpd.block.images.empty import EMPTY
from qmpd.block.images.errors import ImageError
from qmpd.block.images.qcow2.creation import Options as ImageOptions
from qmpd.block.images.qcow2.creation import check as check_image
from qmpd.block.images.qcow2.creation import create, needed_l1
from qmpd.block.images.qcow2.mapping import check_l1
from qmpd.block.jobs.job import Job
from qmpd.block.jobs.steps import JobFailure, Options, Work
from qmpd.block.limits import check_size
from qmpd.block.nodes import Drive
from qmpd.block.opening import Opener
from qmpd.block.permissions import check_writable
from qmpd.common.refusals import NotModelled, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.block.graph import BlockGraph
    from qmpd.block.images.storage import Storage
    from qmpd.block.jobs.home import Home
    from qmpd.block.jobs.steps import Steps
    from qmpd.block.nodes import BlockNode

    Making = Callable[[], None]

# What an image of the older formats can be told and be made.
_PLAIN = frozenset({"driver", "file", "size"})
_ZEROS = 1 << 20
_SECTOR = 512
_WITH_ROOM = ("full", "falloc")


class _Once(Job):
    """Does one thing."""

    __slots__ = ()

    def __init__(self, jobs: Home, identifier: str) -> None:
        super().__init__(jobs, Options(identifier, auto_dismiss=False))

    def run(self) -> Steps:
        """Do it; its progress is 1 of 1, whatever comes of it."""
        self.left = 1
        try:
            yield from self.carry_out()
        finally:
            self.advance(1)

    def carry_out(self) -> Steps:
        """What it does."""
        raise NotImplementedError


class Create(_Once):
    """Makes an image as QAPI's `BlockdevCreateOptions` say."""

    KIND: ClassVar[str] = "create"

    __slots__ = ("_options", "_users")

    def __init__(self, jobs: Home, identifier: str, options: Mapping[str, Any]) -> None:
        """:raise Refusal: there cannot be a job of this name, or no image with this driver."""
        self._options = options
        self._users: list[Drive] = []
        super().__init__(jobs, identifier)

    def carry_out(self) -> Steps:
        """Make it."""
        driver = self._options["driver"]
        if driver != "file" and self.jobs.behaviour.job_create_waits:
            yield Work(_nothing)
        makers = {"file": self._file, "qcow2": self._qcow2, "luks": self._luks}
        if driver not in makers and not (driver in EMPTY and set(self._options) <= _PLAIN):
            yield Work(_nothing)
            raise self._why_not(driver)
        make = makers[driver]() if driver in makers else self._empty(EMPTY[driver])
        outcome = yield Work(make)
        if outcome.error is not None:
            raise outcome.error
        if driver != "file":
            note_image(self.jobs.graph, driver)

    def _file(self) -> Making:
        options = self._options
        filename, size = str(options["filename"]), int(options["size"])
        try:
            file = new_file(filename)
        except OSError as error:
            raise JobFailure(error.errno or errno.EIO, f"Could not create '{filename}': {text_of(error)}") from None
        room = options.get("preallocation", "off")
        return lambda: _fill(file, size, room)

    def _empty(self, write: Callable[[Storage, int, str], None]) -> Making:
        size = int(self._options["size"])
        file = self._use(self._options["file"])
        storage = file.port
        assert storage is not None
        return lambda: write(storage, size, file.exact_name.rpartition("/")[2])

    def _why_not(self, driver: str) -> JobFailure | Refusal:
        """Why QEMU would not make this image either, or that qmpd does not."""
        if driver == "vpc" and not self._options.get("force-size") and not _has_geometry(int(self._options["size"])):
            return JobFailure(errno.EINVAL, "The requested image size cannot be represented in CHS geometry")
        return NotModelled(f"new images of driver {driver}")

    def _qcow2(self) -> Making:
        options = self._options
        file = self._use(options["file"])
        data = self._use(options["data-file"]) if "data-file" in options else None
        if options.get("data-file-raw") and data is None:
            raise ImageError("data-file-raw requires data-file")
        told = ImageOptions(
            size=int(options["size"]), version=2 if options.get("version") == "v2" else 3,
            cluster_size=int(options.get("cluster-size", 65536)), refcount_bits=int(options.get("refcount-bits", 16)),
            lazy_refcounts=bool(options.get("lazy-refcounts")), extended_l2=bool(options.get("extended-l2")),
            compression=str(options.get("compression-type", "zlib")),
            preallocation=str(options.get("preallocation", "off")), backing=options.get("backing-file"),
            backing_format=options.get("backing-fmt"), data_file=None if data is None else data.exact_name,
            data_file_raw=bool(options.get("data-file-raw")),
        )  # fmt: skip
        check_image(told)
        try:
            check_size(told.size)
            check_l1(needed_l1(told))
        except Refusal as error:
            raise Refusal("image-resize", why=error) from None
        except ImageError as error:
            raise Refusal("image-resize", why=error.message) from None
        storage, other = file.port, None if data is None else data.port
        assert storage is not None
        if "encrypt" not in options:
            return lambda: create(storage, told, data=other).flush()
        from qmpd.block.encrypting import new_header

        luks = new_header(self.jobs.graph, options["encrypt"], "encrypt.")
        return lambda: create(storage, told, data=other, luks=luks).flush()

    def _luks(self) -> Making:
        options = self._options
        file = self._use(options["file"])
        if int(options["size"]) % _SECTOR:
            raise ImageError("The image size must be a multiple of 512 bytes")
        from qmpd.block.encrypting import new_header

        room, write = new_header(self.jobs.graph, options, "")
        storage = file.port
        assert storage is not None

        def make() -> None:
            storage.truncate(room + int(options["size"]))
            write(storage, 0)

        return make

    def _use(self, reference: Any) -> BlockNode:
        """The node that a reference names or describes, to be written."""
        graph: BlockGraph = self.jobs.graph
        node = graph.find(reference) if isinstance(reference, str) else Opener(graph).open(reference)
        user = Drive("", label="", writes=True, resizes=True, stays=True, allowed=ALL, node=node)
        try:
            check_writable(node)
            graph.use(user)
        except Refusal:
            graph.changed()
            graph.release(node)
            raise
        self._users.append(user)
        return node

    def clean(self) -> None:
        """Let go of the nodes."""
        for user in self._users:
            self.jobs.graph.empty(user)
        self._users.clear()


class Amend(_Once):
    """Changes an image; nothing but the keys of its encryption could be changed so."""

    KIND: ClassVar[str] = "amend"

    __slots__ = ("_options",)

    def __init__(self, jobs: Home, identifier: str, options: Mapping[str, Any]) -> None:
        """:raise Refusal: there cannot be a job of this name."""
        self._options = options
        super().__init__(jobs, identifier)

    def carry_out(self) -> Steps:
        """Change it."""
        yield from ()
        if "encrypt" in self._options:
            raise JobFailure(errno.EOPNOTSUPP, "image is not encrypted, can't amend")


def _fill(file: DiskFile, size: int, room: str) -> None:
    """Make a new file this large."""
    try:
        file.lock(READ, ALL & ~(READ | UNCHANGED))
        file.truncate(0)
        if room not in ("off", *_WITH_ROOM):
            raise ImageError(f"Unsupported preallocation mode: {room}")
        try:
            file.truncate(size)
        except OSError as error:
            raise ImageError(f"Could not resize file: {text_of(error)}") from None
        if room in _WITH_ROOM:
            for offset in range(0, size, _ZEROS):
                file.write(offset, bytes(min(_ZEROS, size - offset)))
    finally:
        file.lock(0, 0)
        file.close()


def _has_geometry(size: int) -> bool:
    """Whether a disk of this size has cylinders, heads and sectors, as the specification of VHD images has them."""
    sectors = size // _SECTOR
    found, more = 0, 0
    while found < sectors:
        found = _rounded(sectors + more)
        more += 1
    return found * _SECTOR == size


def _rounded(sectors: int) -> int:
    """How many sectors the geometry has that is nearest to so many from below."""
    if sectors > 65535 * 16 * 63:
        return sectors // (255 * 16) * (255 * 16)
    tracks = sectors // 17
    heads, each = max(4, -(-tracks // 1024)), 17
    for heads_then, sectors_then in ((16, 31), (16, 63)):
        if tracks >= heads * 1024 or heads > 16:
            heads, each = heads_then, sectors_then
            tracks = sectors // each
    return tracks // heads * heads * each


def _nothing() -> None:
    """The main loop goes round once."""
