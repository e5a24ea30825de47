"""The objects with TLS credentials (QEMU's crypto/tlscreds.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
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
