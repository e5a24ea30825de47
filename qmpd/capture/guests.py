"""Boot sectors that make a guest do one thing, so that a behaviour can be measured which needs a guest."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECTOR = 512
# Some more sectors of nothing: disk controllers don't show a disk of one.
_DISK = 41 * _SECTOR
_HALT = b"\xf4\xeb\xfd"  # hlt, and again
# About ten milliseconds of keyboard controller reads: the firmware's own last steps are done by then.
_WAIT = b"\xb9\xff\xff\xe4\x80\xe2\xfc"


def _load_port(port: int) -> bytes:
    return b"\xba" + port.to_bytes(2, "little")


def write_byte(port: int, value: int) -> bytes:
    """Machine code that writes one byte to an I/O port."""
    return _load_port(port) + b"\xb0" + bytes([value]) + b"\xee"


def write_word(port: int, value: int) -> bytes:
    """Machine code that writes two bytes to an I/O port."""
    return _load_port(port) + b"\xb8" + value.to_bytes(2, "little") + b"\xef"


# Machine `pc`: ACPI's PM1a control register with sleep type 1 (S3) and the sleep-enable bit.
SUSPEND = write_word(0x604, 0x2400)
# pvpanic's port: bit 0 says that the guest has panicked.
PANIC = write_byte(0x505, 1)
# isa-debug-exit's port: any value ends QEMU.
DEBUG_EXIT = write_byte(0x501, 5)


@contextlib.contextmanager
def disk(action: bytes) -> Iterator[tuple[list[int], list[str]]]:
    """A raw disk whose boot sector does `action`: the descriptors to inherit, and QEMU's options that use it.

    No path is involved, so that a QEMU in another root can read it as well.
    """
    sector = (_WAIT + action + _HALT).ljust(_SECTOR - 2, b"\0") + b"\x55\xaa"
    with tempfile.TemporaryFile(buffering=0) as image:
        image.write(sector.ljust(_DISK, b"\0"))
        # QEMU takes a descriptor only for what it was opened for.
        numbers = [os.open(f"/proc/self/fd/{image.fileno()}", mode) for mode in (os.O_RDONLY, os.O_RDWR)]
        options = [word for number in numbers for word in ("-add-fd", f"fd={number},set=1")]
        try:
            yield numbers, [*options, "-drive", "file=/dev/fdset/1,format=raw,file.locking=off"]
        finally:
            for number in numbers:
                os.close(number)
