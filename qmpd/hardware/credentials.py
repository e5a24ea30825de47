"""The objects with TLS credentials (QEMU's crypto/tlscreds.c), and secrets (crypto/secret_common.c)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import NotModelled, Refusal

if TYPE_CHECKING:
    from qmpd.common.computer import Computer
    from qmpd.qom.tree import ObjectTree

_MEMBERS = ("dir", "endpoint", "verify-peer", "username")


def tls_credentials(tree: ObjectTree, identifier: str, *, endpoint: str) -> dict[str, Any]:
    """The properties of the object of this id, and its type as `qom-type`.

    :raise Refusal: there is none, it is no TLS credentials, or those of the other endpoint.
    """
    node = tree.find(f"/objects/{identifier}")
    if node is None:
        raise Refusal("tls-credentials-missing", id=identifier)
    if not node.type.startswith("tls-creds-"):
        raise Refusal("tls-credentials-none", id=identifier)
    found: dict[str, Any] = {"qom-type": node.type}
    for name in _MEMBERS:
        if node.property(name) is not None:
            found[name] = node.value(name)
    if found.get("endpoint") != endpoint:
        raise Refusal("tls-credentials-client" if endpoint == "server" else "tls-credentials-server")
    return found


def secret_of(tree: ObjectTree, identifier: str, computer: Computer) -> bytes:
    """What a secret holds.

    :raise Refusal: there is none of this id, or its file cannot be read.
    :raise NotModelled: it is encrypted.
    """
    node = tree.find(f"/objects/{identifier}")
    if node is None:
        raise Refusal("secret-key-missing", id=identifier)
    if node.type != "secret":
        raise Refusal("secret-key-none", id=identifier)
    if node.value("keyid"):
        raise NotModelled("secrets that are encrypted")
    path = node.value("file")
    if path:
        try:
            held = computer.read(str(path))
        except OSError as error:
            raise Refusal("secret-file", path=path, reason=error.strerror) from None
    else:
        held = str(node.value("data") or "").encode()
    return base64.b64decode(held) if node.value("format") == "base64" else held
