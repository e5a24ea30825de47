"""Encrypting sectors, and a storage whose bytes are encrypted where they are.

The ciphers themselves come from the library cryptography (the extra `images`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qmpd.common.refusals import NotModelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.ciphers import CipherContext

    from qmpd.block.images.storage import Storage

SECTOR = 512
_BLOCK = 16
_AT_ONCE = 1 << 20
_FILES = "encrypted images without the library that reads them (the extra 'images': pip install qmpd[images])"


class Kind(NamedTuple):
    """How sectors are encrypted: the cipher, the mode, and where initial vectors come from, as headers name them."""

    cipher: str
    mode: str
    generator: str
    generator_hash: str = ""

    def __str__(self) -> str:
        vector = f"{self.generator}:{self.generator_hash}" if self.generator_hash else self.generator
        return "-".join(part for part in (self.cipher, self.mode, vector) if part)


class SectorCipher:
    """A cipher with its key; sectors of 512 bytes are encrypted each by its number."""

    __slots__ = ("_begin",)

    def __init__(self, kind: Kind, key: bytes) -> None:
        """:raise NotModelled: it is none of those that are known here, or there is no library.
        :raise ValueError: the key has not the length that it needs.
        """
        self._begin = _beginning(kind, key)

    def encrypt(self, sector: int, data: bytes) -> bytes:
        """Whole sectors, encrypted; the first has this number."""
        return self._all(sector, data, encrypts=True)

    def decrypt(self, sector: int, data: bytes) -> bytes:
        """Whole sectors, as they were before they were encrypted."""
        return self._all(sector, data, encrypts=False)

    def _all(self, sector: int, data: bytes, *, encrypts: bool) -> bytes:
        begin = self._begin
        return b"".join(
            begin(sector + number, encrypts).update(data[at : at + SECTOR])
            for number, at in enumerate(range(0, len(data), SECTOR))
        )


def _beginning(kind: Kind, key: bytes) -> Callable[[int, bool], CipherContext]:
    """What begins to encrypt a sector, or to decrypt it."""
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError:
        raise NotModelled(_FILES) from None
    if kind.cipher != "aes" or kind.mode not in ("xts", "cbc", "ecb"):
        raise NotModelled(f"images that are encrypted with {kind}")
    algorithm = algorithms.AES(key)
    vector = _vectors(kind, key)

    def begin(sector: int, encrypts: bool) -> CipherContext:
        mode: modes.Mode
        if kind.mode == "xts":
            mode = modes.XTS(vector(sector))
        elif kind.mode == "cbc":
            mode = modes.CBC(vector(sector))
        else:
            mode = modes.ECB()
        cipher = Cipher(algorithm, mode)
        return cipher.encryptor() if encrypts else cipher.decryptor()

    return begin


def _vectors(kind: Kind, key: bytes) -> Callable[[int], bytes]:
    """What makes the initial vector of a sector."""
    if kind.generator == "plain64" or kind.mode == "ecb":
        return lambda sector: sector.to_bytes(_BLOCK, "little")
    if kind.generator == "plain":
        return lambda sector: (sector & 0xFFFF_FFFF).to_bytes(_BLOCK, "little")
    import hashlib

    if kind.generator == "essiv" and kind.generator_hash in hashlib.algorithms_available:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        salted = hashlib.new(kind.generator_hash, key).digest()
        salt = Cipher(algorithms.AES(salted), modes.ECB())
        return lambda sector: salt.encryptor().update(sector.to_bytes(_BLOCK, "little"))
    raise NotModelled(f"images that are encrypted with {kind}")


class Encrypted:
    """A storage whose bytes are encrypted (`qmpd.block.images.storage.Storage`).

    A sector's number is its place in the storage, `start` bytes of which come before the first.
    """

    __slots__ = ("_below", "_cipher", "_start")

    def __init__(self, below: Storage, cipher: SectorCipher, start: int = 0) -> None:
        self._below = below
        self._cipher = cipher
        self._start = start

    @property
    def size(self) -> int:
        """How long it is now."""
        return max(0, self._below.size - self._start)

    def read(self, offset: int, length: int) -> bytes:
        """Read."""
        first, skipped = divmod(offset, SECTOR)
        whole = -(-(skipped + length) // SECTOR) * SECTOR
        data = self._cipher.decrypt(first, self._below.read(self._start + first * SECTOR, whole))
        return data if whole == length else data[skipped : skipped + length]

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write; what a sector has beside that stays."""
        view = memoryview(data)
        for at in range(0, len(view), _AT_ONCE):
            self._write(offset + at, view[at : at + _AT_ONCE])

    def _write(self, offset: int, view: memoryview) -> None:
        end = offset + len(view)
        low, high = offset // SECTOR * SECTOR, -(-end // SECTOR) * SECTOR
        before = self.read(low, offset - low) if low < offset else b""
        after = self.read(end, high - end) if end < high else b""
        whole = b"".join([before, view, after])
        self._below.write(self._start + low, self._cipher.encrypt(low // SECTOR, whole))

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Zeros are encrypted as all else is."""
        for at in range(0, length, _AT_ONCE):
            self.write(offset + at, bytes(min(_AT_ONCE, length - at)))

    def truncate(self, size: int) -> None:
        """Make it this long."""
        self._below.truncate(self._start + size)

    def flush(self) -> None:
        """Return when all that was written survives."""
        self._below.flush()
