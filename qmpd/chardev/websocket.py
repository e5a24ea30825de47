"""Websockets (RFC 6455) as a socket that listens speaks them to its clients, in the real program's very bytes.

No library is used, for the replies, the limits and the oddities are the real program's.  (QEMU's io/channel-websock.c;
tests/emulator/test_dialects.py asks the real program.)
"""

from __future__ import annotations

import base64
import hashlib
import time

LONGEST = 4096
"""Bytes that a request may have, and that are decoded at once."""

LONGEST_FRAME = 8192
"""Bytes of the machine's that one frame has at most."""

_END_OF_LINE, _END_OF_REQUEST = b"\r\n", b"\r\n\r\n"
_MOST_HEADERS = 32
_KEY_LENGTH = 24
_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NEEDED = (b"sec-websocket-version", b"sec-websocket-key", b"host", b"connection", b"upgrade")

_SWITCHING = b"101 Switching Protocols"
_BAD = b"400 Bad Request"
_NOT_FOUND = b"404 Not Found"
_TOO_LARGE = b"403 Request Entity Too Large"

_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10
_LAST, _MASKED, _CONTROL = 0x80, 0x80, 0x08
_KIND, _LENGTH = 0x0F, 0x7F
_OF_16_BITS, _OF_64_BITS = 126, 127
_SHORTEST_HEADER = 6
_NORMAL, _PROTOCOL_ERROR, _UNSUPPORTED, _POLICY = 1000, 1002, 1003, 1008


class _BadRequestError(Exception):
    """A request that is refused."""


class Request:
    """A client's request, as it comes; `rest` is what has come behind it."""

    __slots__ = ("_came", "accepted", "rest")

    def __init__(self) -> None:
        self._came = bytearray()
        self.accepted = False
        self.rest = b""

    @property
    def room(self) -> int:
        """How many bytes may still come."""
        return LONGEST - len(self._came)

    def read(self, data: bytes, now: float) -> bytes | None:
        """Take some of it; gives the reply at this time (Unix time in seconds), None where there is more to come."""
        self._came += data
        # As a string of C's it ends at the first NUL.
        text, end, _ = bytes(self._came).partition(b"\0")[0].partition(_END_OF_REQUEST)
        if not end:
            return _reply(_TOO_LARGE, now, b"Connection: close\r\n\r\n") if self.room <= 0 else None
        self.rest = bytes(self._came[len(text) + len(end) :])
        try:
            headers = _headers(text)
            if headers is None:
                return b""
            reply = _accept(headers, now)
        except _BadRequestError:
            return _reply(_BAD, now, b"Connection: close\r\nSec-WebSocket-Version: 13\r\n")
        except LookupError:
            return _reply(_NOT_FOUND, now, b"Connection: close\r\n\r\n")
        self.accepted = True
        return reply


def _reply(status: bytes, now: float, headers: bytes) -> bytes:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)).encode()
    return b"HTTP/1.1 %b\r\nServer: QEMU VNC\r\nDate: %b\r\n%b" % (status, date, headers)


def _headers(text: bytes) -> dict[bytes, bytes] | None:
    """A request's headers by their names in small letters; None where nothing is to be said to it.

    :raise _BadRequestError: it is none.
    :raise LookupError: it is for another path.
    """
    line, more, rest = text.partition(_END_OF_LINE)
    if not more:
        raise _BadRequestError
    method, more, way = line.partition(b" ")
    if not more:
        return None
    path, more, protocol = way.partition(b" ")
    if method != b"GET" or not more:
        raise _BadRequestError
    if path != b"/":
        raise LookupError
    lines = rest.split(_END_OF_LINE)
    if protocol != b"HTTP/1.1" or len(lines) > _MOST_HEADERS or not all(b":" in each for each in lines):
        raise _BadRequestError
    headers: dict[bytes, bytes] = {}
    for each in lines:
        name, _, value = each.partition(b":")
        headers.setdefault(name.lower(), value.lstrip(b" "))
    return headers


def _accept(headers: dict[bytes, bytes], now: float) -> bytes:
    """The reply to a request that is accepted.

    :raise _BadRequestError: it is not.
    """
    if not all(name in headers for name in _NEEDED):
        raise _BadRequestError
    draft, key, _, connection, upgrade = (headers[name] for name in _NEEDED)
    protocols = headers.get(b"sec-websocket-protocol")
    wishes = [each.strip().lower() for each in connection.split(b",")]
    if (
        (protocols is not None and b"binary" not in protocols)
        or draft != b"13"
        or len(key) != _KEY_LENGTH
        or b"upgrade" not in wishes
        or upgrade.lower() != b"websocket"
    ):
        raise _BadRequestError
    digest = base64.b64encode(hashlib.sha1(key + _KEY_SUFFIX, usedforsecurity=False).digest())
    lines = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n" % digest
    if protocols is not None:
        lines += b"Sec-WebSocket-Protocol: binary\r\n"
    return _reply(_SWITCHING, now, lines + b"\r\n")


class _EndError(Exception):
    """The connection ends; the client is told this status and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.frame = encode(status.to_bytes(2, "big") + why.encode(), _CLOSE)


def encode(payload: bytes, kind: int = _BINARY) -> bytes:
    """A whole frame, binary unless another kind is asked for."""
    size = len(payload)
    if size < _OF_16_BITS:
        length = bytes((size,))
    elif size < 1 << 16:
        length = bytes((_OF_16_BITS,)) + size.to_bytes(2, "big")
    else:
        length = bytes((_OF_64_BITS,)) + size.to_bytes(8, "big")
    return bytes((_LAST | kind,)) + length + payload


class Frames:
    """The frames of one client, as they come.  `ended`: nothing more is to be read, nor to be said."""

    __slots__ = ("_came", "_kind", "_left", "_mask", "_plain", "ended", "pong", "replies")

    def __init__(self, came: bytes = b"") -> None:
        """`came` is what has come behind the request."""
        self._came = bytearray(came)
        self._plain = bytearray()
        # The frame that is being read: its kind, also that of what continues it, its mask, and its bytes to come.
        self._kind = 0
        self._mask = b""
        self._left = 0
        self.ended = False
        # What is to be sent to the client, and whether there is a pong in it: a second one is left out.
        self.replies = b""
        self.pong = False

    @property
    def room(self) -> int:
        """How many bytes are to be read at once."""
        return LONGEST - len(self._came)

    def read(self, data: bytes) -> bytes:
        """What a client says; where it is at fault or takes leave, what it has said with the same bytes is lost."""
        self._came += data
        self._plain.clear()
        try:
            while self._came and (self._left or self._header()) and self._payload():
                pass
        except _EndError as end:
            self.replies += end.frame
            self.ended = True
            return b""
        return bytes(self._plain)

    def _header(self) -> bool:
        """Read a frame's header; False where it has not come.

        :raise _EndError: the client takes leave, or may not send such a frame.
        """
        came = self._came
        if len(came) < _SHORTEST_HEADER:
            return False
        self._kind = came[0] & _KIND or self._kind
        _check(self._kind, is_last=bool(came[0] & _LAST), is_masked=bool(came[1] & _MASKED))
        length, more = came[1] & _LENGTH, 0
        if length >= _OF_16_BITS:
            if self._kind & _CONTROL:
                raise _EndError(_PROTOCOL_ERROR, "control frame is too large")
            more = 2 if length == _OF_16_BITS else 8
            if len(came) < _SHORTEST_HEADER + more:
                return False
            length = int.from_bytes(came[2 : 2 + more], "big")
        self._left, self._mask = length, bytes(came[2 + more : _SHORTEST_HEADER + more])
        del came[: _SHORTEST_HEADER + more]
        return True

    def _payload(self) -> bool:
        """Read what a frame carries, or some of it; False where too little has come."""
        came = self._came
        size = self._left
        if len(came) < size:
            # A mask has four bytes; what controls the connection is read as a whole.
            size = 0 if self._kind & _CONTROL else len(came) // 4 * 4
            if not size:
                return False
        self._left -= size
        came[:size] = _unmasked(bytes(came[:size]), self._mask)
        if self._kind == _BINARY:
            self._plain += came[:size]
        elif self._kind == _PING and not self.pong:
            # All that has come behind it goes back with it.
            self.replies += encode(bytes(came), _PONG)
            self.pong = True
        del came[:size]
        return True


def _check(kind: int, *, is_last: bool, is_masked: bool) -> None:
    """:raise _EndError: this is the client's leave, or a frame that no client may send."""
    if kind == _CLOSE:
        raise _EndError(_NORMAL, "peer requested close")
    if not is_last and kind != _BINARY:
        raise _EndError(_POLICY, "only binary frames may be fragmented")
    if kind not in (_BINARY, _PING, _PONG):
        raise _EndError(_UNSUPPORTED, "only binary, close, ping, and pong frames are supported")
    if not is_masked:
        raise _EndError(_PROTOCOL_ERROR, "client frames must be masked")


def _unmasked(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    masks = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(masks, "big")).to_bytes(size, "big")
