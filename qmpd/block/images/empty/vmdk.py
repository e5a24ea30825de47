"""Empty images of VMDK (VMware's Virtual Disk Format 1.1; QEMU's block/vmdk.c): in one file, or in several.

A description in text names the files (extents) that the disk is in, which are flat or have tables of grains; where
there is but one with tables the description is in that.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from random import getrandbits
from typing import TYPE_CHECKING, Any

from qmpd.block.filenames import probe_bytes
from qmpd.block.files import DiskFile, beside
from qmpd.block.images.errors import ImageError
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qmpd.block.images.storage import Storage

_SECTOR = 512
_WORD = (1 << 32) - 1
_SPLIT = 1 << 31
_GRAIN, _ENTRIES, _TABLE, _DESCRIPTION, _ROOM = 128, 512, 4, 1, 20
"""In sectors: a grain, the table of so many grains, where the description is, and how much room it has."""
_NEWLINES, _SPARE, _ZEROED, _COMPRESSED, _MARKED = 1, 2, 4, 1 << 16, 1 << 17
_NO_PARENT = 0xFFFFFFFF
_IN_FRONT = 4096
_CID = re.compile(rb"^CID=([0-9a-fA-F]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Vmdk:
    """What an image is to be: `BlockdevCreateOptionsVmdk`, and whether the release's descriptions name tools."""

    size: int
    form: str
    zeroed: bool
    backing: str | None
    adapter: str
    hardware: str
    tools: str | None

    @property
    def is_flat(self) -> bool:
        """Whether its extents are nothing but the disk's bytes."""
        return self.form in ("monolithicFlat", "twoGbMaxExtentFlat")

    @property
    def is_split(self) -> bool:
        """Whether none of its extents is larger than 2 GiB."""
        return self.form in ("twoGbMaxExtentFlat", "twoGbMaxExtentSparse")

    @property
    def extents(self) -> list[int]:
        """The sizes of the extents that are not in the main file, in bytes."""
        if not self.is_flat and not self.is_split:
            return []
        most = _SPLIT if self.is_split else max(self.size, 1)
        return [min(most, self.size - start) for start in range(0, self.size, most)]


def vmdk(options: Mapping[str, Any], *, names_tools: bool) -> Vmdk:
    """:raise ImageError: no image is that."""
    hardware = options.get("hwversion", "4")
    found = Vmdk(
        int(options["size"]), options.get("subformat", "monolithicSparse"), bool(options.get("zeroed-grain")),
        options.get("backing-file"), options.get("adapter-type", "ide"), "4" if hardware == "undefined" else hardware,
        options.get("toolsversion", "2147483647") if names_tools else None,
    )  # fmt: skip
    if found.size % _SECTOR:
        raise ImageError("Image size must be a multiple of 512 bytes")
    if found.is_flat and found.backing is not None:
        raise ImageError("Flat image can't have backing file")
    if found.is_flat and found.zeroed:
        raise ImageError("Flat image can't enable zeroed grain")
    return found


def write(image: Vmdk, main: tuple[Storage, str], extents: Sequence[tuple[Storage, str]]) -> None:
    """Write it to its main file and its extents, which are given with their names.

    :raise ImageError: the extents are too few or too many, or what is behind it is none.
    :raise OSError: it cannot be written.
    """
    storage, path = main
    wanted = image.extents
    is_one = not image.is_flat and not image.is_split
    _extent(storage, image, image.size if is_one else 0)
    parent, hint = _NO_PARENT, ""
    if image.backing is not None:
        parent, hint = _parent(path, image.backing), f'parentFileNameHint="{image.backing}"\n'
    kind = "FLAT" if image.is_flat else "SPARSE"
    lines = [_line(image.size, kind, path)] if is_one else []
    for number, size in enumerate(wanted):
        if number >= len(extents):
            raise ImageError(f"Extent [{number}] not specified")
        other, name = extents[number]
        _extent(other, image, size)
        lines.append(_line(size, kind, name))
    if len(extents) > len(wanted):
        raise ImageError("List of extents contains unused extents")
    text = _described(image, parent, hint, "".join(lines))
    storage.write(_DESCRIPTION * _SECTOR if is_one else 0, text)
    if not is_one:
        storage.truncate(len(text))


def _line(size: int, kind: str, path: str) -> str:
    end = " 0" if kind == "FLAT" else ""
    return f'RW {size // _SECTOR} {kind} "{path.rpartition("/")[2]}"{end}\n'


def _described(image: Vmdk, parent: int, hint: str, extents: str) -> bytes:
    heads = 16 if image.adapter == "ide" else 255
    tools = "" if image.tools is None else f'ddb.toolsVersion = "{image.tools}"\n'
    text = (
        f"# Disk DescriptorFile\nversion=1\nCID={getrandbits(32):x}\nparentCID={parent:x}\n"
        f'createType="{image.form}"\n{hint}\n# Extent description\n{extents}\n# The Disk Data Base\n#DDB\n\n'
        f'ddb.virtualHWVersion = "{image.hardware}"\n'
        f'ddb.geometry.cylinders = "{image.size // (63 * heads * _SECTOR)}"\n'
        f'ddb.geometry.heads = "{heads}"\nddb.geometry.sectors = "63"\nddb.adapterType = "{image.adapter}"\n{tools}'
    )
    return text.encode(errors="surrogateescape")


def _parent(path: str, name: str) -> int:
    """The mark of the image behind one at `path`."""
    found = beside(path, name)
    try:
        file = DiskFile(found, "file", None, read_only=True, auto_read_only=False, locking=False)
    except MachineError as error:
        raise ImageError(str(error)) from None
    head = file.read(0, _IN_FRONT)
    file.close()
    kind = probe_bytes(head)
    if kind != "vmdk":
        raise ImageError(f"Invalid backing file format: {kind}. Must be vmdk")
    mark = _CID.search(head)
    if mark is None:
        raise ImageError("Failed to read parent CID")
    return int(mark[1], 16)


def _extent(storage: Storage, image: Vmdk, size: int) -> None:
    """An extent of so many bytes without any data."""
    if image.is_flat:
        storage.truncate(size)
        return
    is_compressed = image.form == "streamOptimized"
    version = 3 if is_compressed else 2 if image.zeroed else 1
    flags = _NEWLINES | _SPARE | (_COMPRESSED | _MARKED) * is_compressed | _ZEROED * image.zeroed
    # QEMU counts grains in 32 bits.
    tables = -(-(-(-(size // _SECTOR) // _GRAIN) & _WORD) // _ENTRIES)
    directory = -(-4 * tables // _SECTOR)
    first = _DESCRIPTION + _ROOM
    second = first + directory + _TABLE * tables
    data = -(-(second + directory + _TABLE * tables) // _GRAIN) * _GRAIN
    header = struct.pack(
        "<4sIIQQQQIQQQB4sH", b"KDMV", version, flags, size // _SECTOR, _GRAIN, _DESCRIPTION, _ROOM, _ENTRIES, first,
        second, data, 0, b"\n \r\n", int(is_compressed),
    )  # fmt: skip
    storage.truncate(data * _SECTOR)
    storage.write(0, header)
    for place in (first, second):
        found = [place + directory + number * _TABLE & _WORD for number in range(tables)]
        storage.write(place * _SECTOR, struct.pack(f"<{tables}I", *found).ljust(directory * _SECTOR, b"\0"))
