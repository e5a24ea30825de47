"""Playing the guest's side of its disks: what its drivers read and write."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qmpd.block.requests import Request
from qmpd.common.refusals import NotModelled
from qmpd.control.addresses import Address, number
from qmpd.control.declaration import Group, command
from qmpd.control.errors import ControlError
from qmpd.control.performance import in_steps
from qmpd.control.sizes import Size
from qmpd.control.sizes import size as read_size
from qmpd.control.times import nanoseconds

if TYPE_CHECKING:
    from qmpd.block.nodes import BlockNode, Drive
    from qmpd.control.performance import Steps
    from qmpd.system.disks import Disks

_SECTOR = 512
_PATTERN = 0xCD
_MOST = 64 << 20
_SHOWN = 4096
_MOMENT = 0.002


@dataclass(frozen=True, slots=True)
class DiskResult:
    """What came of a request to a disk.

    `state` is `done`, `failed`, or `waiting`: for a limit of the drive's, or for the machine to go on after an error
    has stopped it; it ends by itself then.  `error` is the system's text, and `action` what the device did about it.
    Of what was read there is a hash, all of it in hexadecimal digits where it is short, and `pattern` where all of its
    bytes are the same.
    """

    state: str
    error: str | None = None
    action: str | None = None
    sha256: str | None = None
    data: str | None = None
    pattern: int | None = None


@dataclass(frozen=True, slots=True)
class LoadState:
    """A load on a disk: how many of its writes have ended, how many of those failed, whether more come."""

    id: int
    device: str
    writes: int
    failed: int
    active: bool


class DiskGuest(Group):
    """The guest's requests to its disks.  Each takes a guest that runs.

    `device` is a drive's id, or its device's id or path.  Offsets and lengths are in bytes, multiples of 512.
    """

    __slots__ = ()

    def _require_running(self) -> None:
        guest = self._stage.host.system.guest
        if guest is None:
            raise ControlError("the machine has no guest")
        guest.require_running()

    def _disks(self, device: str) -> tuple[Disks, Drive, BlockNode]:
        self._require_running()
        system = self._stage.host.system
        try:
            _ = system.tree
        except NotModelled as error:
            raise ControlError(error.message) from None
        drive, node = system.disks.find(device)
        if drive.device is None:
            raise ControlError(f"no device of the guest has the drive '{device}'")
        return system.disks, drive, node

    @command("guest-write")
    def write(
        self, device: str | None = None, offset: Size = 0, length: Size = _SECTOR, pattern: Address = _PATTERN,
        zeroes: bool = False, unmap: bool = False, chardev: str | None = None, data: str | None = None,
    ) -> DiskResult:  # fmt: skip
        """Write bytes that are all `pattern`, or zeros that need not be written (`zeroes`), to a disk.

        Or say `data` through a character device, by its id; without one through the first serial port.
        """
        if data is not None:
            if device is not None or (offset, length, pattern, zeroes, unmap) != (0, _SECTOR, _PATTERN, False, False):
                raise ControlError("'data' goes to a character device, 'pattern' to a disk")
            self._say(chardev or "", data)
            return DiskResult("done")
        if chardev is not None:
            raise ControlError("'chardev' takes 'data'")
        if device is None:
            raise ControlError("Parameter 'device' is missing")
        begin, count = _place(offset, length)
        byte = _byte(pattern)
        kind = "zero" if zeroes else "write"
        return self._do(device, Request(kind, begin, count, 0 if zeroes else byte, unmap=unmap))

    def _say(self, chardev: str, data: str) -> None:
        guest = self._stage.host.system.guest
        if guest is None:
            raise ControlError("the machine has no guest")
        guest.require_running()
        if not guest.have_console().say(chardev, data.encode()):
            raise ControlError(f"there is no character device '{chardev}'" if chardev else "there is no serial port")

    @command("guest-read")
    def read(self, device: str, offset: Size = 0, length: Size = _SECTOR) -> DiskResult:
        """Read bytes from a disk."""
        begin, count = _place(offset, length)
        looked = _Looked(count)
        return self._do(device, Request("read", begin, count, take=looked.take), looked)

    @command("guest-flush")
    def flush(self, device: str) -> DiskResult:
        """Have all that was written to a disk where it survives."""
        return self._do(device, Request("flush"))

    @command("guest-discard")
    def discard(self, device: str, offset: Size, length: Size) -> DiskResult:
        """Tell a disk that some of its bytes are not needed any more."""
        begin, count = _place(offset, length, most=1 << 62)
        return self._do(device, Request("discard", begin, count))

    def _do(self, device: str, request: Request, looked: _Looked | None = None) -> DiskResult:
        return in_steps(self._in_steps(device, request, looked))

    def _in_steps(self, device: str, request: Request, looked: _Looked | None) -> Steps[DiskResult]:
        disks, drive, node = self._disks(device)
        if request.offset + request.length > node.virtual_size:
            raise ControlError(f"the disk of '{device}' has {node.virtual_size} bytes")
        disks.requests.submit(drive, node, request)
        while not request.ended and not request.gates and not disks.executor.settle(_MOMENT):
            yield
        error = os.strerror(request.error) if request.error else None
        if not request.ended or request.action == "stop":
            return DiskResult("waiting", error, request.action or None)
        if request.error:
            return DiskResult("failed", error, request.action or None)
        return DiskResult("done") if looked is None else looked.result()

    @command("guest-start-load")
    def start_load(
        self, device: str, rate: Size = 1 << 20, length: Size = 65536, offset: Size = 0, area: Size | None = None,
        count: int | None = None, pattern: Address = _PATTERN,
    ) -> LoadState:  # fmt: skip
        """Write `rate` bytes a second of the machine's time to a disk, `length` at once, until told to end.

        It goes through `area` bytes from `offset` on, again and again; without it to the disk's end.  `count` is how
        many writes it makes.  It holds while the machine is stopped.
        """
        disks, drive, node = self._disks(device)
        begin, each = _place(offset, length)
        whole = node.virtual_size - begin if area is None else _place(offset, area, most=1 << 62)[1]
        if each == 0 or whole < each or begin + whole > node.virtual_size:
            raise ControlError(f"the disk of '{device}' has {node.virtual_size} bytes")
        interval = _interval(each, rate)
        load = disks.start_load(drive, device, begin, whole, each, interval, count, _byte(pattern))
        return LoadState(**load.describe())

    @command("guest-stop-load")
    def stop_load(self, id_: int) -> LoadState:
        """End a load; what it has begun is finished."""
        load = self._stage.host.system.disks.stop_load(id_)
        if load is None:
            raise ControlError(f"there is no load {id_}")
        return LoadState(**load.describe())

    @command("query-guest-loads")
    def query_loads(self) -> list[LoadState]:
        """List the loads on disks, and what has come of them."""
        system = self._stage.host.system
        if system.is_bare:
            return []
        return [LoadState(**load.describe()) for load in system.disks.loads.values()]


def _byte(pattern: Address) -> int:
    try:
        byte = number(pattern)
    except ValueError:
        byte = 256
    if byte > 255:
        raise ControlError("'pattern' is a byte")
    return byte


def _interval(length: int, rate: Size) -> int:
    """Nanoseconds between writes of so many bytes, at so many bytes a second."""
    try:
        pace = read_size(rate)
        if pace > 0:
            return nanoseconds(length / pace)
    except ValueError as error:
        raise ControlError(f"'rate': {error}") from None
    raise ControlError("'rate' is a number of bytes a second")


class _Looked:
    """What is told of bytes that were read, of which there may be more than anybody wants to keep."""

    def __init__(self, length: int) -> None:
        self._digest = hashlib.sha256()
        self._pattern: int | None = None
        self._same = True
        self._shown = bytearray() if length <= _SHOWN else None

    def take(self, place: int, data: bytes) -> None:
        """A piece more, in a thread."""
        self._digest.update(data)
        if not place and data:
            self._pattern = data[0]
        self._same = self._same and self._pattern is not None and data == bytes([self._pattern]) * len(data)
        if self._shown is not None:
            self._shown += data

    def result(self) -> DiskResult:
        """What is told of all of them."""
        return DiskResult(
            "done", sha256=self._digest.hexdigest(), data=None if self._shown is None else self._shown.hex(),
            pattern=self._pattern if self._same else None,
        )  # fmt: skip


def _place(offset: Size, length: Size, *, most: int = _MOST) -> tuple[int, int]:
    try:
        begin, count = read_size(offset), read_size(length)
    except ValueError as error:
        raise ControlError(str(error)) from None
    if begin % _SECTOR or count % _SECTOR:
        raise ControlError(f"'offset' and 'length' are multiples of {_SECTOR}")
    if count > most:
        raise ControlError(f"a guest transfers at most {most} bytes at once")
    return begin, count
