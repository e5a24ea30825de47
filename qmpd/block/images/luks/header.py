"""The header of a volume: what it says, the key that it keeps, and making one (version 1 of the format)."""

from __future__ import annotations

import errno
import hashlib
import hmac
import struct
import time
import uuid
from dataclasses import dataclass
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.block.images.errors import ImageError
from qmpd.block.images.luks.cipher import SECTOR, Kind, SectorCipher
from qmpd.common.refusals import NotModelled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.block.images.storage import Storage

MAGIC = b"LUKS\xba\xbe"
# magic, version, cipher_name, cipher_mode, hash_spec, payload_offset, key_bytes, mk_digest, mk_digest_salt,
# mk_digest_iterations, uuid; offsets count sectors
_HEADER = struct.Struct(">6sH32s32s32sII20s32sI40s")
# active, iterations, salt, key_material_offset, stripes
_SLOT = struct.Struct(">II32sII")
_SLOTS, _FIRST_SLOT, _LENGTH = 8, 208, 592
_ACTIVE, _INACTIVE = 0x00AC71F3, 0x0000DEAD
_STRIPES, _ALIGNMENT = 4000, 4096
_DIGEST, _SALT = 20, 32
_LONGEST_KEY, _MOST_ROUNDS = 64, 100_000_000
# As QEMU does, the key of the volume gets an eighth of the time for its digest.
_LEAST_ROUNDS, _SHARE, _TRIED = 1000, 8, 20_000
_HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160")


class Slot(NamedTuple):
    """One of eight places where the key is kept; `offset` is in bytes from the header on."""

    is_active: bool
    rounds: int
    salt: bytes
    offset: int
    stripes: int


@dataclass(frozen=True, slots=True)
class LuksHeader:
    """What a header says; `payload` is where the volume's bytes begin, in bytes from the header on."""

    kind: Kind
    hashed: str
    payload: int
    key_length: int
    digest: bytes
    salt: bytes
    rounds: int
    uuid: str
    slots: tuple[Slot, ...]

    def describe(self) -> dict[str, Any]:
        """QAPI's QCryptoBlockInfoLUKS."""
        halves = 2 if self.kind.mode == "xts" else 1
        data: dict[str, Any] = {
            "cipher-alg": f"{self.kind.cipher}-{self.key_length * 8 // halves}", "cipher-mode": self.kind.mode,
            "ivgen-alg": self.kind.generator, "hash-alg": self.hashed, "payload-offset": self.payload,
            "master-key-iters": self.rounds, "uuid": self.uuid, "slots": [_described(slot) for slot in self.slots],
        }  # fmt: skip
        if self.kind.generator_hash:
            data["ivgen-hash-alg"] = self.kind.generator_hash
        return data


def _described(slot: Slot) -> dict[str, Any]:
    known = {"iters": slot.rounds, "stripes": slot.stripes} if slot.is_active else {}
    return {"active": slot.is_active, "key-offset": slot.offset, **known}


def read_luks(storage: Storage, offset: int = 0) -> LuksHeader:
    """Read and check the header that is there.

    :raise ImageError: it is none, or contradicts itself.
    :raise NotModelled: its keys are hashed in a way that is not known here.
    :raise OSError: it cannot be read.
    """
    head = storage.read(offset, _LENGTH)
    magic, version, cipher, mode, hashed, payload, key_length, digest, salt, rounds, name = _HEADER.unpack_from(head)
    if magic != MAGIC:
        raise ImageError("Volume is not in LUKS format", errno.EINVAL)
    if version != 1:
        raise ImageError(f"LUKS version {version} is not supported", errno.ENOTSUP)
    if _text(hashed) not in _HASHES or _text(hashed) not in hashlib.algorithms_available:
        raise NotModelled(f"LUKS volumes whose hash is '{_text(hashed)}'")
    if not 0 < key_length <= _LONGEST_KEY or not 0 < rounds <= _MOST_ROUNDS:
        raise ImageError("qmpd cannot read this LUKS header: its key cannot be of that kind")
    chain, _, vector = _text(mode).partition("-")
    generator, _, generator_hash = vector.partition(":")
    slots = tuple(_slot(head, number) for number in range(_SLOTS))
    kind = Kind(_text(cipher), chain, generator, generator_hash)
    return LuksHeader(
        kind, _text(hashed), payload * SECTOR, key_length, digest, salt, rounds, _text(name), slots
    )  # fmt: skip


def _slot(head: bytes, number: int) -> Slot:
    active, rounds, salt, place, stripes = _SLOT.unpack_from(head, _FIRST_SLOT + _SLOT.size * number)
    if active not in (_ACTIVE, _INACTIVE):
        raise ImageError(f"Keyslot {number} state (active/disable) is corrupted")
    if active == _ACTIVE and (stripes != _STRIPES or not 0 < rounds <= _MOST_ROUNDS):
        raise ImageError(f"Keyslot {number} is corrupted (stripes {stripes}, iterations {rounds})")
    return Slot(active == _ACTIVE, rounds, salt, place * SECTOR, stripes)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("ascii", "replace")


# The key


def unlock(header: LuksHeader, storage: Storage, offset: int, secret: bytes) -> SectorCipher:
    """What decrypts the volume, by a passphrase; it takes as long as the header wants it to.

    :raise ImageError: no slot has the key for that.
    :raise NotModelled: it is encrypted in a way that is not known here, or there is no library.
    :raise OSError: it cannot be read.
    """
    for slot in header.slots:
        if not slot.is_active:
            continue
        material = storage.read(offset + slot.offset, _whole(header.key_length * slot.stripes))
        derived = hashlib.pbkdf2_hmac(header.hashed, secret, slot.salt, slot.rounds, header.key_length)
        split = _cipher(header.kind, derived).decrypt(0, material)[: header.key_length * slot.stripes]
        key = _merged(split, header.key_length, header.hashed)
        digest = hashlib.pbkdf2_hmac(header.hashed, key, header.salt, header.rounds, _DIGEST)
        if hmac.compare_digest(digest, header.digest):
            return _cipher(header.kind, key)
    raise ImageError("Invalid password, cannot unlock any keyslot", errno.EPERM)


def _cipher(kind: Kind, key: bytes) -> SectorCipher:
    try:
        return SectorCipher(kind, key)
    except ValueError:
        raise NotModelled(f"images that are encrypted with {kind} and keys of {len(key) * 8} bits") from None


def _whole(length: int) -> int:
    return -(-length // SECTOR) * SECTOR


def _merged(split: bytes, length: int, hashed: str) -> bytes:
    """The key that was split into stripes (the format's anti-forensic splitter)."""
    block = bytes(length)
    for at in range(0, len(split) - length, length):
        block = _diffused(_xor(block, split[at : at + length]), hashed)
    return _xor(block, split[-length:])


def _split(key: bytes, hashed: str) -> bytes:
    """A key as stripes, all of which it takes to have it again."""
    stripes, block = [], bytes(len(key))
    for _ in range(_STRIPES - 1):
        stripes.append(token_bytes(len(key)))
        block = _diffused(_xor(block, stripes[-1]), hashed)
    return b"".join([*stripes, _xor(block, key)])


def _xor(first: bytes, second: bytes) -> bytes:
    return (int.from_bytes(first, "little") ^ int.from_bytes(second, "little")).to_bytes(len(first), "little")


def _diffused(block: bytes, hashed: str) -> bytes:
    size = hashlib.new(hashed).digest_size
    return b"".join(
        hashlib.new(hashed, number.to_bytes(4, "big") + block[at : at + size]).digest()[: len(block) - at]
        for number, at in enumerate(range(0, len(block), size))
    )


# A new one


def new_kind(options: Mapping[str, Any]) -> tuple[Kind, str, int]:
    """How a volume is encrypted that QAPI's QCryptoBlockCreateOptionsLUKS describe: how, the hash, the key's length.

    :raise ImageError: it cannot be so.
    :raise NotModelled: it is encrypted in a way that is not known here.
    """
    algorithm, mode = str(options.get("cipher-alg", "aes-256")), str(options.get("cipher-mode", "xts"))
    hashed = str(options.get("hash-alg", "sha256"))
    cipher, _, bits = algorithm.partition("-")
    generator = str(options.get("ivgen-alg", "plain64"))
    generator_hash = str(options.get("ivgen-hash-alg", "sha256" if generator == "essiv" else ""))
    kind = Kind(cipher, mode, generator, generator_hash)
    if cipher != "aes" or mode not in ("xts", "cbc", "ecb") or hashed not in hashlib.algorithms_available:
        raise NotModelled(f"images that are encrypted with {kind} and {hashed}")
    return kind, hashed, int(bits) // 8 * (2 if mode == "xts" else 1)


def room(key_length: int) -> int:
    """How many bytes come before a volume's own: its header and the slots."""
    return _ALIGNMENT + _SLOTS * _slot_room(key_length)


def _slot_room(key_length: int) -> int:
    return -(-key_length * _STRIPES // _ALIGNMENT) * _ALIGNMENT


def create_luks(storage: Storage, offset: int, options: Mapping[str, Any], secret: bytes) -> None:
    """Write a new header; the passphrase opens its first slot.

    :raise NotModelled: see `new_kind`.
    :raise OSError: it cannot be written.
    """
    kind, hashed, key_length = new_kind(options)
    key, salt, slot_salt = token_bytes(key_length), token_bytes(_SALT), token_bytes(_SALT)
    rounds = _rounds(hashed, key_length, int(options.get("iter-time", 2000)))
    slot_rounds, rounds = max(_LEAST_ROUNDS, rounds), max(_LEAST_ROUNDS, rounds // _SHARE)
    digest = hashlib.pbkdf2_hmac(hashed, key, salt, rounds, _DIGEST)
    head = _HEADER.pack(
        MAGIC, 1, kind.cipher.encode(), str(kind).partition("-")[2].encode(), hashed.encode(),
        room(key_length) // SECTOR, key_length, digest, salt, rounds, str(uuid.uuid4()).encode(),
    )  # fmt: skip
    for number in range(_SLOTS):
        place = (_ALIGNMENT + number * _slot_room(key_length)) // SECTOR
        used = (_ACTIVE, slot_rounds, slot_salt) if number == 0 else (_INACTIVE, 0, bytes(_SALT))
        head += _SLOT.pack(*used, place, _STRIPES)
    derived = hashlib.pbkdf2_hmac(hashed, secret, slot_salt, slot_rounds, key_length)
    material = _split(key, hashed)
    material = material.ljust(_whole(len(material)), b"\0")
    storage.write(offset, head)
    storage.write(offset + _ALIGNMENT, _cipher(kind, derived).encrypt(0, material))


def _rounds(hashed: str, length: int, milliseconds: int) -> int:
    """How many rounds this computer does in so much time."""
    begun = time.thread_time()
    hashlib.pbkdf2_hmac(hashed, b"", b"", _TRIED, length)
    return int(_TRIED * milliseconds / 1000 / max(time.thread_time() - begun, 1e-6))
