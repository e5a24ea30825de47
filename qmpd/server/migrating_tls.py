"""TLS around the channels of a migration, with the credentials that `tls-creds` names.  (QEMU's migration/tls.c.)

As QEMU's, a client looks at the name in the certificate once both sides have shaken hands.
"""

from __future__ import annotations

import ipaddress
import ssl
from typing import TYPE_CHECKING, Any

import trio

from qmpd.common.refusals import Worded
from qmpd.server.encryption import CERTIFICATES, check_supported, client_context, server_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.migration.channel import Way

_ENDED = "The TLS connection was non-properly terminated."
_UNEXPECTED = "An unexpected TLS packet was received."
_NOT_OURS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"})
_CERTIFICATE_ERRORS = {9: "The certificate is not yet activated", 10: "The certificate has expired"}
_DISTRUSTED = "The certificate is not trusted"


def check_way(way: Way) -> None:
    """Refuse a way with credentials with which this Python cannot speak TLS.

    What else is wrong with them shows once somebody is there, as in QEMU.

    :raise NotModelled: it cannot.
    """
    try:
        credentials = way.credentials()
    except Worded:
        return
    if credentials is not None:
        check_supported(credentials)


async def secured(stream: trio.SocketStream, way: Way, *, server: bool) -> Any:
    """The stream with TLS around it, or itself where the migration has none.

    :raise Worded: the other side does not speak it, or is not who it should be.
    """
    try:
        credentials = way.credentials()
        if credentials is None:
            return stream
        check_supported(credentials)
        context = server_context(credentials) if server else client_context(credentials)
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, OSError):
            raise Worded(f"Unable to access credentials: {error.strerror or error}") from None
        raise
    context.check_hostname = False
    encrypted = trio.SSLStream(stream, context, server_side=server, https_compatible=True)
    try:
        await encrypted.do_handshake()
        if not server:
            _check_name(credentials, way, encrypted)
    except (trio.BrokenResourceError, OSError) as error:
        await trio.aclose_forcefully(stream)
        raise Worded(_words(error)) from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return encrypted


def _words(error: BaseException) -> str:
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _CERTIFICATE_ERRORS.get(cause.verify_code, _DISTRUSTED)
    reason = getattr(cause, "reason", "")
    return f"TLS handshake failed: {_UNEXPECTED if reason in _NOT_OURS else _ENDED}"


def _check_name(credentials: Mapping[str, Any], way: Way, encrypted: Any) -> None:
    """:raise Worded: the certificate is somebody else's."""
    if credentials["qom-type"] != CERTIFICATES or not credentials.get("verify-peer", True):
        return
    name = way.hostname or str(way.address.get("host", ""))
    if not name:
        raise Worded("No hostname for certificate validation")
    if not any(_is_named(kind, value, name) for kind, value in encrypted.getpeercert().get("subjectAltName", ())):
        raise Worded(f"Certificate does not match the hostname {name}")


def _is_named(kind: str, value: str, name: str) -> bool:
    if kind == "IP Address":
        try:
            return ipaddress.ip_address(value.strip()) == ipaddress.ip_address(name)
        except ValueError:
            return False
    if kind != "DNS":
        return False
    value, name = value.lower(), name.lower()
    return value == name or (value.startswith("*.") and value[1:] == name[name.find(".") :] and "." in name)

