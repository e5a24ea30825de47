"""The files of disks: opening them as QEMU's block/file-posix.c does, reading, writing, and QEMU's locks on them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import struct
from typing import TYPE_CHECKING

from qmpd.block.file_sets import number_of_set
from qmpd.block.pausing import asked, away, slow
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    OpenDescriptor = Callable[[int, int], int]
    """Opens a file of a descriptor set: its number and the way (`os.O_RDWR` and its like)."""

# <linux/falloc.h>
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_NOT_THERE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EINVAL, errno.ENOTSUP)
_ZEROS = 1 << 20
_LARGEST = (1 << 63) - 1
# Of new files.
_MODE = 0o644
# Of an image: so much of it is read to know what is behind it, of at most so many; how it begins, and where its header
# says where the name is.
_HEAD, _MOST_BEHIND = 1 << 16, 64
_QCOW2, _BACKING = b"QFI\xfb", struct.Struct(">8xQI")
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

# What users of a file do with it, and what they will not have others do: the bits are QEMU's (BLK_PERM_*).
READ, WRITE, UNCHANGED, RESIZE = 1, 2, 4, 8
ALL = READ | WRITE | UNCHANGED | RESIZE
# The one that some releases have beside them: to change the graph.  Nobody is refused for it.
GRAPH = 16
NAMES = {READ: "consistent read", WRITE: "write", UNCHANGED: "write unchanged", RESIZE: "resize"}
# The bytes of a file that stand for them: a lock tells that somebody does it, or will not have it done.
_DOES, _UNSHARED = 100, 200
# struct flock: type, whence, start, length, process.
_LOCK = struct.Struct("hhqqi0q")


def _fallocate() -> Callable[[int, int, int, int], int]:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    call: Callable[[int, int, int, int], int] = libc.fallocate
    return call


def _change_lock(descriptor: int, kind: int, byte: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, byte, 1, 0))


def _is_locked(descriptor: int, byte: int) -> bool:
    """Whether another open file has locked this byte."""
    asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    return bool(_LOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK)


class FileStorage:
    """An open file (`qmpd.block.content.Content`)."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    @asked
    def size(self) -> int:
        """How long it is now."""
        return os.lseek(self.descriptor, 0, os.SEEK_END)

    @property
    @asked
    def allocated(self) -> int | None:
        """How many bytes of the disk it takes."""
        return os.fstat(self.descriptor).st_blocks * 512

    @slow
    def read(self, offset: int, length: int) -> bytes:
        """The bytes from `offset` on; zeros stand for what is behind the end.

        :raise OSError: it cannot be read.
        """
        data = os.pread(self.descriptor, length, offset)
        while len(data) < length:
            more = os.pread(self.descriptor, length - len(data), offset + len(data))
            if not more:
                return data.ljust(length, b"\0")
            data += more
        return data

    @slow
    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write the bytes.

        :raise OSError: they cannot be written, or not all of them.
        """
        written = os.pwrite(self.descriptor, data, offset)
        while written < len(data):
            written += os.pwrite(self.descriptor, memoryview(data)[written:], offset + written)

    @slow
    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Let these bytes be zeros, and give back their room where `unmap` and the file system can.

        :raise OSError: it cannot be done.
        """
        inside = min(length, max(0, self.size - offset))
        if inside and not (unmap and self._punch(offset, inside)):
            self._overwrite(offset, inside)
        if inside < length:
            self.truncate(offset + length)

    def _overwrite(self, offset: int, length: int) -> None:
        """Write zeros over what is there; holes are zeros already."""
        for count, is_hole in self.holes(offset, length):
            end = offset + count
            while offset < end and not is_hole:
                size = min(_ZEROS, end - offset)
                self.write(offset, bytes(size))
                offset += size
            offset = end

    def _punch(self, offset: int, length: int) -> bool:
        """Give back the room of these bytes; whether that can be done here."""
        if _fallocate()(self.descriptor, _KEEP_SIZE | _PUNCH_HOLE, offset, length) != 0:
            number = ctypes.get_errno()
            if number not in _NOT_THERE:
                raise OSError(number, os.strerror(number))
            return False
        return True

    @slow
    def discard(self, offset: int, length: int) -> None:
        """Give back the room of these bytes where that can be done.

        :raise OSError: it fails.
        """
        inside = min(length, max(0, self.size - offset))
        if inside:
            self._punch(offset, inside)

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """All of a file is allocated, as far as chains of images go."""
        yield length, True

    def holes(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """What a part is: lengths, and whether the file system keeps nothing for them; all is kept if it is silent."""
        end = offset + length
        while offset < end:
            try:
                data = min(end, os.lseek(self.descriptor, offset, os.SEEK_DATA))
            except OSError as error:
                # Behind the last data nothing but a hole is left.
                data = end if error.errno == errno.ENXIO else offset
            if data > offset:
                yield data - offset, True
                offset = data
                continue
            try:
                hole = min(end, max(offset + 1, os.lseek(self.descriptor, offset, os.SEEK_HOLE)))
            except OSError:
                hole = end
            yield hole - offset, False
            offset = hole

    @slow
    def truncate(self, size: int) -> None:
        """Make it this long.

        :raise OSError: it cannot be done.
        """
        if not 0 <= size <= _LARGEST:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        os.ftruncate(self.descriptor, size)

    @slow
    def flush(self) -> None:
        """Return when all that was written is on the disk.

        :raise OSError: it cannot be done.
        """
        os.fdatasync(self.descriptor)

    @slow
    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class DiskFile(FileStorage):
    """The file of a node, and the locks on it (docs/system/qemu-block-drivers.rst, "Disk image file locking").

    It is opened for reading alone as long as nobody writes where `auto_read_only`.
    """

    __slots__ = (
        "_anchor", "_auto", "_held", "_locking", "_open_set", "_opened", "_place", "_writable", "filename", "is_device",
    )  # fmt: skip

    def __init__(
        self, filename: str, driver: str, open_set: OpenDescriptor | None, *,
        read_only: bool, auto_read_only: bool, locking: bool, place: str = "",
    ) -> None:  # fmt: skip
        """`place` is where it is found while it has no name.

        :raise Refusal: it cannot be opened.
        """
        self.filename = filename
        self._place = place
        self._anchor = -1
        self._open_set = open_set
        self._locking = locking
        self._auto = auto_read_only
        self._held = (0, 0)
        self._writable = not read_only
        self._opened = not read_only and not auto_read_only
        self.is_device = False
        away(lambda: self._begin(driver))

    def _begin(self, driver: str) -> None:
        super().__init__(self._open(self._opened))
        try:
            mode = os.fstat(self.descriptor).st_mode
            self._check_kind(driver, mode)
        except BaseException:
            self._close()
            raise
        self.is_device = not stat.S_ISREG(mode)

    @slow
    def hide(self) -> str:
        """Let it have no name, so that it ends with the last process that has it open; where it is found now.

        :raise OSError: it cannot be removed.
        """
        self._anchor = os.dup(self.descriptor)
        if not self._place:
            os.unlink(self.filename)
        self._place = f"/proc/{os.getpid()}/fd/{self._anchor}"
        return self._place

    def _open(self, writable: bool) -> int:
        way = os.O_RDWR if writable else os.O_RDONLY
        number = number_of_set(self.filename)
        if number is not None:
            return self._open_of_set(number, way)
        try:
            # A pipe must not keep the machine waiting.
            descriptor = os.open(self._place or self.filename, way | os.O_CLOEXEC | os.O_NONBLOCK)
            os.set_blocking(descriptor, True)
            return descriptor
        except OSError as error:
            number = errno.EACCES if error.errno == errno.EROFS else error.errno or errno.EIO
            raise MachineError(f"Could not open '{self.filename}': {os.strerror(number)}") from None
        except ValueError:
            raise MachineError(f"Could not open '{self.filename}': {os.strerror(errno.ENOENT)}") from None

    def _open_of_set(self, number: int, way: int) -> int:
        try:
            if self._open_set is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return self._open_set(number, way)
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO)
            code = "fdset-missing" if error.errno == errno.ENOENT else "fdset-mode"
            raise Refusal(code, file=self.filename, number=number, way=f"{way:x}", reason=reason) from None

    def _check_kind(self, driver: str, mode: int) -> None:
        wanted = stat.S_ISREG(mode) if driver == "file" else stat.S_ISBLK(mode) or stat.S_ISCHR(mode)
        if wanted:
            return
        raise Refusal("file-not-regular" if driver == "file" else "file-no-device", driver=driver, file=self.filename)

    @property
    @asked
    def size(self) -> int:
        """How long it is now; 0 where a device does not tell."""
        try:
            return os.lseek(self.descriptor, 0, os.SEEK_END)
        except OSError:
            return 0

    @slow
    def close(self) -> None:
        """Close the file, which lets go of its locks; twice does no harm."""
        self._close()

    def _close(self) -> None:
        for descriptor in (self.descriptor, self._anchor):
            if descriptor >= 0:
                os.close(descriptor)
        self.descriptor = self._anchor = -1

    def __del__(self) -> None:
        """Nobody has the node any more."""
        if getattr(self, "descriptor", -1) >= 0:
            self._close()

    # Being read-only, and locks

    @slow
    def reopen(self, *, read_only: bool, auto_read_only: bool) -> None:
        """Be writable, or not, from now on.

        :raise Refusal: it cannot be.
        """
        self._writable, self._auto = not read_only, auto_read_only
        self._be(self._writable and (bool(self._held[0] & (WRITE | RESIZE)) or not self._auto))

    def _be(self, writable: bool) -> None:
        if writable == self._opened:
            return
        old, self.descriptor = self.descriptor, self._open(writable)
        self._opened = writable
        if self._locking:
            for byte in _bytes(*self._held):
                _change_lock(self.descriptor, fcntl.F_RDLCK, byte)
        os.close(old)

    @slow
    def lock(self, does: int, unshared: int) -> None:
        """Tell others of the host what is done with the file, and what they must not do.

        :raise Refusal: they do, or will not have it done.
        """
        if self._auto and self._writable:
            self._be(bool(does & (WRITE | RESIZE)))
        if not self._locking:
            self._held = (does, unshared)
            return
        before, wanted = set(_bytes(*self._held)), set(_bytes(does, unshared))
        try:
            for byte in sorted(wanted - before):
                try:
                    _change_lock(self.descriptor, fcntl.F_RDLCK, byte)
                except OSError:
                    raise MachineError(f"Failed to lock byte {byte}") from None
            # Who asks for no more than before cannot be refused.  (QEMU's raw_handle_perm_lock.)
            if not wanted <= before:
                self._look_for_others(does, unshared)
        except MachineError:
            self._unlock(wanted - before)
            raise
        self._unlock(before - wanted)
        self._held = (does, unshared)

    @slow
    def keep_locked(self, does: int, unshared: int) -> None:
        """Lock what another process has had locked until now, whoever else has; nothing can refuse that."""
        if self._auto and self._writable:
            self._be(bool(does & (WRITE | RESIZE)))
        self._held = (does, unshared)
        if self._locking:
            for byte in _bytes(does, unshared):
                with contextlib.suppress(OSError):
                    _change_lock(self.descriptor, fcntl.F_RDLCK, byte)

    def _look_for_others(self, does: int, unshared: int) -> None:
        hint = (f"Is another process using the image [{self.filename}]?",)
        for bit, name in NAMES.items():
            if does & bit and _is_locked(self.descriptor, _UNSHARED + bit.bit_length() - 1):
                raise MachineError(f'Failed to get "{name}" lock', hint)
        for bit, name in NAMES.items():
            if unshared & bit and _is_locked(self.descriptor, _DOES + bit.bit_length() - 1):
                raise MachineError(f'Failed to get shared "{name}" lock', hint)

    def _unlock(self, places: set[int]) -> None:
        for byte in places:
            _change_lock(self.descriptor, fcntl.F_UNLCK, byte)


@slow
def new_file(path: str) -> DiskFile:
    """A file of this name, made where there is none, locked for somebody who makes it anew.

    :raise ImageError: it cannot be had.
    """
    from qmpd.block.images.errors import ImageError

    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, _MODE))
        file = DiskFile(path, "file", None, read_only=False, auto_read_only=False, locking=True)
    except OSError as error:
        raise ImageError(f"Could not create '{path}': {error.strerror}") from None
    except MachineError as error:
        raise ImageError(error.message) from None
    except (Refusal, ValueError):
        raise ImageError(f"Could not create '{path}': {os.strerror(errno.EINVAL)}") from None
    try:
        file.lock(WRITE | RESIZE, RESIZE)
    except MachineError as error:
        file.close()
        raise ImageError(error.message) from None
    return file


def _bytes(does: int, unshared: int) -> Iterator[int]:
    """The bytes of a file that are locked for what is done, and for what is not shared."""
    for bit in NAMES:
        if does & bit:
            yield _DOES + bit.bit_length() - 1
    for bit in NAMES:
        if unshared & bit:
            yield _UNSHARED + bit.bit_length() - 1


@slow
def kind_of(filename: str) -> str:
    """The driver of a file that is named without one: `host_device` for a device, else `file`."""
    try:
        mode = os.stat(filename).st_mode
    except (OSError, ValueError):
        return "file"
    return "host_device" if stat.S_ISBLK(mode) or stat.S_ISCHR(mode) else "file"


def beside(filename: str, other: str) -> str:
    """The file that an image of this name means by another name."""
    protocol, colon, _ = other.partition(":")
    if (colon and "/" not in protocol) or other.startswith("/"):
        return other
    return os.path.join(os.path.dirname(filename), other) if "/" in filename else other


def read_text(path: str) -> str:
    """A small file of text, whole; of a named pipe what has been written to it.

    :raise MachineError: it cannot be read.
    """
    try:
        # The main loop is here, and must not wait for a writer; whoever has to has waited (`Host.wait_for_writer`).
        with open(path, "rb", buffering=0, opener=_without_waiting) as file:
            return (file.read(_ZEROS) or b"").decode("utf-8", "surrogateescape")
    except OSError as error:
        raise MachineError(f"Could not read blkdebug config file: {error.strerror}") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


@slow
def read_bytes(path: str, most: int) -> bytes:
    """The beginning of a file.

    :raise OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(most)


def look_at(names: list[str]) -> None:
    """Wait until these files answer, and those that they say are behind them."""
    left, seen = list(names), set[str]()
    while left:
        name = left.pop()
        if name in seen or len(seen) >= _MOST_BEHIND:
            continue
        seen.add(name)
        with contextlib.suppress(OSError, ValueError):
            # Who opens a pipe is noticed at its other end.
            if not stat.S_ISREG(os.stat(name).st_mode):
                continue
            head = read_bytes(name, _HEAD)
            if head.startswith(_QCOW2):
                place, length = _BACKING.unpack_from(head)
                behind = head[place : place + length] if place else b""
                left += [beside(name, behind.decode(errors="surrogateescape"))] if behind else []


@slow
def temporary_file() -> tuple[FileStorage, str]:
    """A new file for what ends with the process, and its name, as QEMU's C library would make it up.

    :raise OSError: it cannot be made.
    """
    # QEMU takes /var/tmp where nothing else is said, since what is in /tmp may have to fit into the memory.
    folder = os.environ.get("TMPDIR") or "/var/tmp"
    while True:
        name = os.path.join(folder, f"vl.{''.join(_LETTERS[byte % len(_LETTERS)] for byte in os.urandom(6))}")
        with contextlib.suppress(FileExistsError):
            return FileStorage(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)), name


@slow
def remove(filename: str) -> None:
    """Remove a file, where it is there."""
    with contextlib.suppress(OSError):
        os.unlink(filename)
