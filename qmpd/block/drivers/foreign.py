"""vmdk, vdi, vpc and vhdx: images that a library reads, and nobody here writes.

The library (dissect.hypervisor) comes with the extra `images`.  It is given what is below the node as an open file.
"""

from __future__ import annotations

import errno
import struct
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from qmpd.block.images.errors import ImageError, failure
from qmpd.block.pausing import away
from qmpd.common.refusals import NotModelled, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.block.content import Content

    class Stream(Protocol):
        """What a library makes of an image."""

        def seek(self, offset: int) -> int:
            """Go there."""

        def read(self, length: int) -> bytes:
            """Read from there."""

_SECTOR = 512
_MOST = 64 << 20
"""No library reads more of a file at once unless the image is a bad one."""
_BEGIN, _HERE = 0, 1
"""From where a file's `seek` counts; from the end is any other."""
_NO_PARENT = "ffffffff"
_VPC, _VHDX, _VDI = b"conectix", b"vhdxfile", 0xBEDA107F
_VMDK, _DESCRIPTOR = (b"KDMV", b"COWD"), b"# Disk DescriptorFile"
# Of a VHD's footer: who made it, the size, and cylinders, heads and sectors; those of the largest disk that has them.
_FOOTER = struct.Struct(">28x4s16xQHBB")
_LARGEST = (0xFFFF, 16, 255)
_BY_SIZE = (b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS")
"""The programs whose VHDs are as large as they say, whatever the cylinders are."""


class _Opened(NamedTuple):
    """An image, open: its bytes, how many there are, the size of its clusters, and what it says of itself."""

    stream: Stream
    size: int
    cluster: int | None = None
    specific: dict[str, Any] | None = None


class Foreign:
    """An image that is read (`qmpd.block.content.Content`)."""

    def __init__(self, driver: str, file: Content) -> None:
        """:raise ImageError: it is no image of this kind, or contradicts itself.
        :raise NotModelled: there is no library for it, or the library does not read such.
        """
        self.file = file
        self._lock = threading.Lock()
        self._opened = away(lambda: _open(driver, file))

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self._opened.size

    @property
    def cluster_size(self) -> int | None:
        """The size of its clusters; None where it has none."""
        return self._opened.cluster

    @property
    def specific(self) -> dict[str, Any] | None:
        """QAPI's ImageInfoSpecific; None where it has none."""
        return self._opened.specific

    @property
    def allocated(self) -> int | None:
        """How many bytes of the host's disk it takes."""
        return self.file.allocated

    def read(self, offset: int, length: int) -> bytes:
        """Read.

        :raise OSError: the image contradicts itself there, or its file cannot be read.
        """

        def read() -> bytes:
            with self._lock:
                self._opened.stream.seek(offset)
                return self._opened.stream.read(length).ljust(length, b"\0")

        try:
            return away(read)
        except (OSError, ImageError):
            raise
        except Exception as error:
            raise failure(errno.EIO) from error

    def _refuse(self, *arguments: object, **options: object) -> None:
        raise failure(errno.EPERM)

    write = zero = discard = truncate = _refuse

    def flush(self) -> None:
        """Nothing was written."""

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """Nothing is behind it."""
        yield length, True

    def close(self) -> None:
        """What it is in is closed by whoever opened that."""


class _File:
    """What is below a node, as an open file for a library."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._place = 0

    def seek(self, offset: int, whence: int = _BEGIN) -> int:
        base = {_BEGIN: 0, _HERE: self._place}.get(whence, self._content.size)
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._content.size - self._place)
        wanted = left if size < 0 else min(size, left)
        if wanted > _MOST:
            raise ValueError("it is to be read in one go")
        data = self._content.read(self._place, wanted) if wanted else b""
        self._place += len(data)
        return data


def _open(driver: str, file: Content) -> _Opened:
    head = file.read(0, min(file.size, 4 * _SECTOR)).ljust(4 * _SECTOR, b"\0")
    _CHECKS[driver](head, file)
    try:
        return _OPEN[driver](file, head)
    except ImportError:
        raise NotModelled(
            f"{driver} images without the libraries that read them (the extra 'images': pip install qmpd[images])"
        ) from None
    except (Refusal, OSError, ImageError):
        raise
    except Exception as error:
        raise ImageError(f"qmpd cannot read this {driver} image: {str(error) or type(error).__name__}") from error


# What QEMU says of what is no such image


def _check_vmdk(head: bytes, file: Content) -> None:
    if not head.startswith(_VMDK) and not head.startswith(_DESCRIPTOR):
        raise ImageError("invalid VMDK image descriptor")


def _check_vdi(head: bytes, file: Content) -> None:
    (signature,) = struct.unpack_from("<I", head, 0x40)
    if signature != _VDI:
        raise ImageError(f"Image not in VDI format (bad signature {signature:08x})")


def _check_vpc(head: bytes, file: Content) -> None:
    if not head.startswith(_VPC) and (file.size < _SECTOR or not _footer(file).startswith(_VPC)):
        raise ImageError("invalid VPC image")


def _check_vhdx(head: bytes, file: Content) -> None:
    if not head.startswith(_VHDX):
        raise ImageError(f"Could not open '{_name(file)}': Invalid argument", errno.EINVAL)


def _name(file: Content) -> str:
    node = getattr(file, "node", None)
    return "" if node is None else str(node.exact_name)


def _footer(file: Content) -> bytes:
    return file.read(file.size - _SECTOR, _SECTOR)


# Opening


def _vmdk(file: Content, head: bytes) -> _Opened:
    from dissect.hypervisor.disk.vmdk import VMDK

    if head.startswith(_DESCRIPTOR):
        raise NotModelled("vmdk images that are in several files")
    image = VMDK(_File(file))
    disk = image.disks[0]
    description = {} if disk.descriptor is None else disk.descriptor.attr
    if description.get("parentCID", _NO_PARENT) != _NO_PARENT:
        raise NotModelled("vmdk images with another one behind them")
    cluster = disk.header.grain_size * _SECTOR
    extent: dict[str, Any] = {
        "virtual-size": image.size, "filename": _name(file), "cluster-size": cluster, "format": "",
    }  # fmt: skip
    if disk.descriptor is not None and description.get("createType") == "streamOptimized":
        extent["compressed"] = True
    data = {
        "create-type": description.get("createType", "vmfsSparse"), "cid": int(description.get("CID", "0"), 16),
        "parent-cid": int(description.get("parentCID", _NO_PARENT), 16), "extents": [extent],
    }  # fmt: skip
    return _Opened(image, image.size, cluster, {"type": "vmdk", "data": data})


def _vdi(file: Content, head: bytes) -> _Opened:
    from dissect.hypervisor.disk.vdi import VDI

    image = VDI(_File(file))
    if int(image.type) not in (1, 2):
        raise ImageError(f"unsupported VDI image (type {int(image.type)})", errno.ENOTSUP)
    return _Opened(image.open(), image.size, image.block_size)


def _vpc(file: Content, head: bytes) -> _Opened:
    from dissect.hypervisor.disk.vhd import VHD

    is_fixed = not head.startswith(_VPC)
    maker, size, *geometry = _FOOTER.unpack_from(_footer(file) if is_fixed else head)
    if maker not in _BY_SIZE and tuple(geometry) != _LARGEST:
        cylinders, heads, sectors = geometry
        size = cylinders * heads * sectors * _SECTOR
    image = VHD(_File(file))
    if is_fixed:
        return _Opened(image, size)
    (cluster,) = struct.unpack_from(">I", head, _SECTOR + 32)
    return _Opened(image, size, cluster)


def _vhdx(file: Content, head: bytes) -> _Opened:
    from dissect.hypervisor.disk.vhdx import VHDX

    image = VHDX(_File(file))
    if image.has_parent:
        raise NotModelled("vhdx images with another one behind them")
    return _Opened(image, image.size, image.block_size)


_CHECKS: dict[str, Callable[[bytes, Content], None]] = {
    "vmdk": _check_vmdk, "vdi": _check_vdi, "vpc": _check_vpc, "vhdx": _check_vhdx,
}  # fmt: skip
_OPEN: dict[str, Callable[[Content, bytes], _Opened]] = {
    "vmdk": _vmdk, "vdi": _vdi, "vpc": _vpc, "vhdx": _vhdx,
}  # fmt: skip
