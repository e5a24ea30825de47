"""TLS, with the credentials that a machine's objects name."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import NotModelled, Worded

if TYPE_CHECKING:
    from collections.abc import Mapping

CERTIFICATES, _KEYS = "tls-creds-x509", "tls-creds-psk"
"""The types of credentials: certificates, and keys that both sides have."""
_KEY_FILE = "keys.psk"


def check_supported(credentials: Mapping[str, Any]) -> None:
    """Refuse credentials with which this Python cannot speak TLS.

    :raise NotModelled: it cannot.
    """
    kind = credentials["qom-type"]
    if kind == _KEYS and not hasattr(ssl.SSLContext, "set_psk_server_callback"):
        raise NotModelled("tls-creds-psk before Python 3.13")
    if kind not in (CERTIFICATES, _KEYS):
        raise NotModelled(f"TLS with {kind}")


def server_context(credentials: Mapping[str, Any]) -> ssl.SSLContext:
    """The server's side of TLS.

    :raise OSError: a file cannot be read, or is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if credentials["qom-type"] == _KEYS:
        _use_keys(context, credentials, server=True)
        return context
    folder = credentials["dir"]
    context.load_cert_chain(os.path.join(folder, "server-cert.pem"), os.path.join(folder, "server-key.pem"))
    if credentials.get("verify-peer", True):
        context.load_verify_locations(os.path.join(folder, "ca-cert.pem"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(credentials: Mapping[str, Any]) -> ssl.SSLContext:
    """The client's side of TLS.

    :raise OSError: a file cannot be read, or is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if credentials["qom-type"] == _KEYS:
        context.check_hostname = False
        _use_keys(context, credentials, server=False)
        return context
    folder = credentials["dir"]
    certificate, key = os.path.join(folder, "client-cert.pem"), os.path.join(folder, "client-key.pem")
    if os.path.exists(certificate):
        context.load_cert_chain(certificate, key)
    if credentials.get("verify-peer", True):
        context.load_verify_locations(os.path.join(folder, "ca-cert.pem"))
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _use_keys(context: ssl.SSLContext, credentials: Mapping[str, Any], *, server: bool) -> None:
    """Keys that both sides have, by user (`keys.psk`: a line `USER:HEXADECIMAL` each)."""
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("PSK")
    known: dict[str, bytes] = {}
    with open(os.path.join(credentials["dir"], _KEY_FILE), encoding="utf-8") as lines:
        for line in lines:
            user, colon, key = line.strip().partition(":")
            if colon:
                known[user] = bytes.fromhex(key)
    if server:
        context.set_psk_server_callback(lambda user: known.get(user or "", b""))  # type: ignore[attr-defined]
        return
    user = credentials.get("username") or "qemu"
    if user not in known:
        raise Worded(f"No key for the user '{user}' in {_KEY_FILE}")
    context.set_psk_client_callback(lambda _: (user, known[user]))  # type: ignore[attr-defined]
