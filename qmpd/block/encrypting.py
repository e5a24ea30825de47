"""Nodes whose bytes are encrypted: luks, and qcow2 images that hold a LUKS header (QEMU's block/crypto.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from qmpd.block.drivers.luks import Luks
from qmpd.block.images.errors import ImageError
from qmpd.block.images.luks.header import create_luks, new_kind, read_luks, room, unlock
from qmpd.block.images.qcow2 import layout
from qmpd.block.nodes import below
from qmpd.block.pausing import away
from qmpd.block.values import group
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.block.drivers.formats import Qcow2Content
    from qmpd.block.graph import BlockGraph
    from qmpd.block.images.luks.cipher import SectorCipher
    from qmpd.block.images.luks.header import LuksHeader
    from qmpd.block.images.qcow2.header import Header
    from qmpd.block.images.storage import Storage
    from qmpd.block.nodes import BlockNode

_METHODS = {layout.AES: "aes", layout.LUKS: "luks"}


def luks_content(node: BlockNode, graph: BlockGraph) -> Luks:
    """The volume in a luks node.

    :raise Refusal: its passphrase is not given.
    :raise ImageError: it is none, or not opened by that.
    """
    file = below(node)
    secret = passphrase(graph, node.options, "")
    header, cipher = away(lambda: _opened(file, 0, secret))
    return Luks(file, header, cipher)


def check_encryption(header: Header, wanted: str | None) -> None:
    """Refuse another kind of encryption than an image has; None where none is told.

    :raise MachineError: it is another one.
    """
    method = header.encryption
    if wanted is not None and wanted != _METHODS.get(method):
        raise MachineError(
            f"Header reported '{_METHODS[method]}' encryption format but options specify '{wanted}'"
            if method
            else f"No encryption in image header, but options specified format '{wanted}'"
        )


def unlock_qcow2(node: BlockNode, graph: BlockGraph, content: Qcow2Content) -> None:
    """Have the bytes of a qcow2 image decrypted where it is encrypted.

    :raise Refusal: its passphrase is not given, or another kind of encryption is.
    :raise ImageError: the header contradicts itself, or the passphrase does not open it.
    """
    options = group(node.options, "encrypt")
    check_encryption(content.header, options.get("format"))
    method = content.header.encryption
    if method != layout.LUKS:
        return
    if content.header.luks is None:
        raise ImageError(f"Missing CRYPTO header for crypt method {method}", errno.EINVAL)
    offset, _ = content.header.luks
    secret = passphrase(graph, options, "encrypt.")
    header, cipher = away(lambda: _opened(content.file, offset, secret))
    content.encryption = header, cipher


def passphrase(graph: BlockGraph, options: Mapping[str, Any], prefix: str) -> bytes:
    """The passphrase that options of encryption name.

    :raise Refusal: they name none, or there is no such secret.
    """
    name = options.get("key-secret")
    if name is None:
        raise MachineError(f"Parameter '{prefix}key-secret' is required for cipher")
    assert graph.servers.secret is not None
    return graph.servers.secret(str(name))


def _opened(storage: Storage, offset: int, secret: bytes) -> tuple[LuksHeader, SectorCipher]:
    header = read_luks(storage, offset)
    return header, unlock(header, storage, offset, secret)


# New ones


def new_header(
    graph: BlockGraph, options: Mapping[str, Any], prefix: str
) -> tuple[int, Callable[[Storage, int], None]]:
    """How much room the header takes that QAPI's options describe, and what writes it.

    :raise Refusal: its passphrase is not given.
    :raise ImageError: no new image is encrypted so.
    :raise NotModelled: it is encrypted in a way that is not known here.
    """
    kind = options.get("format", "luks")
    if kind != "luks":
        raise ImageError(f"Unsupported encryption format '{kind}'")
    secret = passphrase(graph, options, prefix)
    _, _, key_length = new_kind(options)
    return room(key_length), lambda storage, offset: create_luks(storage, offset, options, secret)
