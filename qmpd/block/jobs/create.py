"""blockdev-create and x-blockdev-amend: jobs that make an image, or change what it is.  (block/create.c, amend.c.)

They are no block jobs, cannot be paused, and their result has to be dismissed by hand.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from qmpd.block.content import text_of
from qmpd.block.creating import note_image
from qmpd.block.files import ALL, READ, UNCHANGED, DiskFile, new_file
from qmpd.block.flat import flatten
from qmpd.block.images.empty import CHECKS, EMPTY
from qmpd.block.images.empty.vmdk import vmdk
from qmpd.block.images.empty.vmdk import write as write_vmdk
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
    from qmpd.block.images.empty.vmdk import Vmdk
    from qmpd.block.images.storage import Storage
    from qmpd.block.jobs.home import Home
    from qmpd.block.jobs.steps import Steps
    from qmpd.block.nodes import BlockNode

    Making = Callable[[], None]

# Formats that still look at what is asked for when they hold their file, which they then leave in a turn of their own.
_LEFT_LATE = frozenset({"vpc", "qcow", "vmdk", "luks"})
_ZEROS = 1 << 20
_LARGEST = (1 << 63) - 1
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
        # Some formats know what they cannot be before their file is opened, which takes a turn of the main loop.
        if driver in CHECKS:
            CHECKS[driver](self._options)
        elif driver == "vmdk":
            self._described_vmdk()
        if driver != "file" and self.jobs.behaviour.job_create_waits:
            yield Work(_nothing)
        makers: dict[str, Callable[[], Making]] = {
            "file": self._file, "qcow2": self._qcow2, "luks": self._luks, "vmdk": self._vmdk,
            **dict.fromkeys(EMPTY, partial(self._empty, driver)),
        }  # fmt: skip
        if driver not in makers:
            yield Work(_nothing)
            raise NotModelled(f"new images of driver {driver}")
        try:
            make = makers[driver]()
        except (Refusal, ImageError):
            if self._users and driver in _LEFT_LATE:
                yield Work(_nothing)
            raise
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

    def _empty(self, driver: str) -> Making:
        options = self._options
        file = self._use(options["file"])
        write = EMPTY[driver](options)
        if "encrypt" in options:
            from qmpd.block.encrypting import passphrase

            passphrase(self.jobs.graph, options["encrypt"], "encrypt.")
        storage = _storage(file)
        return lambda: write(storage)

    def _described_vmdk(self) -> Vmdk:
        return vmdk(self._options, names_tools=self.jobs.behaviour.vmdk_names_tools)

    def _vmdk(self) -> Making:
        options, image = self._options, self._described_vmdk()
        main, *others = (self._use(each) for each in (options["file"], *options.get("extents", ())))
        extents = [(_storage(each), each.exact_name) for each in others]
        return lambda: write_vmdk(image, (_storage(main), main.exact_name), extents)

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
        storage, other = _storage(file), None if data is None else _storage(data)
        if "encrypt" not in options:
            return lambda: create(storage, told, data=other).flush()
        from qmpd.block.encrypting import new_header

        luks = new_header(self.jobs.graph, options["encrypt"], "encrypt.")
        return lambda: create(storage, told, data=other, luks=luks).flush()

    def _luks(self) -> Making:
        options = self._options
        file = self._use(options["file"])
        from qmpd.block.encrypting import new_header

        room, write = new_header(self.jobs.graph, options, "")
        size = room + int(options["size"])
        if size > _LARGEST:
            raise ImageError("The requested file size is too large", errno.EFBIG)
        storage = _storage(file)

        def make() -> None:
            storage.truncate(size)
            write(storage, 0)

        return make

    def _use(self, reference: Any) -> BlockNode:
        """The node that a reference names or describes, to be written."""
        graph: BlockGraph = self.jobs.graph
        node = graph.find(reference) if isinstance(reference, str) else Opener(graph).open(flatten(reference))
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
        if room != "off" and size > _LARGEST:
            # To QEMU it is less than nothing.
            raise ImageError("Cannot use preallocation for shrinking files")
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


def _storage(node: BlockNode) -> Storage:
    """What is in a node that is written."""
    assert node.port is not None
    return node.port


def _nothing() -> None:
    """The main loop goes round once."""
