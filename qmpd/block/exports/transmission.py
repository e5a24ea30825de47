"""The server's side of the transmission: requests are read, checked and answered."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from qmpd.block.exports import protocol
from qmpd.block.exports.protocol import Chunk, Command, Flag
from qmpd.block.images.errors import text as error_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qmpd.block.exports.negotiation import Agreement

_WRITES = frozenset({Command.WRITE, Command.TRIM, Command.WRITE_ZEROES})
_COMMANDS = frozenset(int(each) for each in Command)
_LIMITED = frozenset({Command.READ, Command.WRITE, Command.CACHE})
MOST_EXTENTS = 4096
"""So many parts are told of at once."""


class BrokenProtocol(Exception):  # noqa: N818 - the name says what happened
    """The client does not speak the protocol: the connection is to be closed."""


class Request(NamedTuple):
    """A request; `command` may be one that there is not."""

    command: int
    flags: int
    cookie: int
    offset: int
    length: int
    data: bytes = b""
    # The contexts that a block status is to tell of, by their numbers.
    contexts: tuple[int, ...] = ()


class Transmission:
    """The requests of one client, and the replies to them."""

    def __init__(self, agreement: Agreement, data: bytes = b"") -> None:
        self.agreement = agreement
        self._buffer = bytearray(data)

    # Requests

    def receive(self, data: bytes) -> None:
        """These bytes have come."""
        self._buffer += data

    def next_request(self) -> Request | None:
        """The next request; None where it has not come whole.

        :raise BrokenProtocol: what has come is none.
        """
        extended = self.agreement.extended
        layout = protocol.EXTENDED_REQUEST if extended else protocol.REQUEST
        if len(self._buffer) < layout.size:
            return None
        magic, flags, command, cookie, offset, length = layout.unpack_from(self._buffer)
        if magic != (protocol.EXTENDED_REQUEST_MAGIC if extended else protocol.REQUEST_MAGIC):
            raise BrokenProtocol
        if command == Command.DISCONNECT:
            raise BrokenProtocol
        has_payload = command == Command.WRITE or (extended and bool(flags & Flag.PAYLOAD_LENGTH))
        payload = length if has_payload else 0
        if payload > protocol.LONGEST_REQUEST:
            raise BrokenProtocol
        end = layout.size + payload
        if len(self._buffer) < end:
            return None
        data = bytes(memoryview(self._buffer)[layout.size : end])
        del self._buffer[:end]
        if has_payload and command == Command.BLOCK_STATUS:
            length, contexts = self._chosen(data)
            return Request(command, flags, cookie, offset, length, contexts=contexts)
        if has_payload and command != Command.WRITE:
            # Such a payload is passed over, and the flag refused.
            length, data = 0, b""
        return Request(command, flags, cookie, offset, length, data, self.agreement.contexts)

    def _chosen(self, payload: bytes) -> tuple[int, tuple[int, ...]]:
        """The length that a block status is about, and its contexts: some of those that were agreed on, or none."""
        head, agreed = protocol.EFFECT.size, self.agreement.contexts
        if len(payload) % 4 or not head <= len(payload) <= head + 4 * len(agreed):
            return 0, ()
        found = tuple(int.from_bytes(payload[at : at + 4], "big") for at in range(head, len(payload), 4))
        if len(set(found)) != len(found) or not set(found) <= set(agreed):
            return 0, ()
        return protocol.EFFECT.unpack_from(payload)[0], tuple(sorted(found))

    def refusal(self, request: Request, flags: int) -> tuple[int, str] | None:
        """Why a request is not carried out: an error number, and a sentence.  `flags` are the export's."""
        command, length, size = request.command, request.length, self.agreement.offer.size
        if command in _LIMITED and length > protocol.LONGEST_REQUEST:
            return errno.EINVAL, f"len ({length}) is larger than max len ({protocol.LONGEST_REQUEST})"
        if command in _WRITES and flags & protocol.Export.READ_ONLY:
            return errno.EROFS, "Export is read-only"
        if command != Command.FLUSH and request.offset + length > size:
            number = errno.ENOSPC if command in (Command.WRITE, Command.WRITE_ZEROES) else errno.EINVAL
            return number, f"operation past EOF; From: {request.offset}, Len: {length}, Size: {size}"
        if request.flags & ~self._allowed(command):
            called = _NAMES.get(command, "<unknown>")
            return errno.EINVAL, f"unsupported flags for command {called} (got 0x{request.flags:x})"
        if command not in _COMMANDS:
            return errno.EINVAL, f"invalid request type ({command}) received"
        if command == Command.BLOCK_STATUS:
            if not length:
                return errno.EINVAL, "need non-zero length"
            if not request.contexts:
                what = "payload not valid" if self.agreement.contexts else "not negotiated"
                return errno.EINVAL, f"CMD_BLOCK_STATUS {what}"
        return None

    def _allowed(self, command: int) -> int:
        allowed = Flag.FUA
        if command == Command.READ and self.agreement.structured:
            allowed |= Flag.DONT_FRAGMENT
        elif command == Command.WRITE_ZEROES:
            allowed |= Flag.NO_HOLE | Flag.FAST_ZERO
        elif command == Command.BLOCK_STATUS:
            allowed |= Flag.REQ_ONE
        if self.agreement.extended and command in (Command.WRITE, Command.BLOCK_STATUS):
            allowed |= Flag.PAYLOAD_LENGTH
        return allowed

    # Replies

    def done(self, request: Request) -> bytes:
        """It is carried out."""
        if self.agreement.extended:
            return self._chunk(request, Chunk.NONE, b"")
        return protocol.SIMPLE_REPLY.pack(protocol.SIMPLE_REPLY_MAGIC, 0, request.cookie)

    def failed(self, request: Request, number: int, why: str = "") -> bytes:
        """It has failed with the host's error `number`."""
        told = protocol.error_on_the_wire(number)
        if not self.agreement.structured:
            return protocol.SIMPLE_REPLY.pack(protocol.SIMPLE_REPLY_MAGIC, told, request.cookie)
        sentence = (why or error_text(number)).encode()
        body = told.to_bytes(4, "big") + len(sentence).to_bytes(2, "big") + sentence
        return self._chunk(request, Chunk.ERROR, body)

    def was_read(self, request: Request, data: bytes) -> Iterator[bytes]:
        """The bytes that were read; zeros are told of rather than sent, where the client understands that."""
        if not self.agreement.structured:
            yield protocol.SIMPLE_REPLY.pack(protocol.SIMPLE_REPLY_MAGIC, 0, request.cookie)
            yield data
        elif not data:
            yield self._chunk(request, Chunk.NONE, b"")
        elif request.flags & Flag.DONT_FRAGMENT or data.count(0) != len(data):
            head = request.offset.to_bytes(8, "big")
            yield self._head(request, Chunk.DATA, len(head) + len(data)) + head
            yield data
        else:
            hole = request.offset.to_bytes(8, "big") + len(data).to_bytes(4, "big")
            yield self._chunk(request, Chunk.HOLE, hole)

    def status(self, request: Request, found: Iterable[tuple[int, list[tuple[int, int]]]]) -> Iterator[bytes]:
        """What the parts of the node are: of each context its number, and lengths with what is told of them."""
        contexts, extended = list(found), self.agreement.extended
        kind = Chunk.EXTENDED_BLOCK_STATUS if extended else Chunk.BLOCK_STATUS
        layout = protocol.EXTENDED_EXTENT if extended else protocol.EXTENT
        for place, (number, extents) in enumerate(contexts):
            head = number.to_bytes(4, "big") + (len(extents).to_bytes(4, "big") if extended else b"")
            body = head + b"".join(layout.pack(*each) for each in extents)
            yield self._chunk(request, kind, body, last=place == len(contexts) - 1)

    def _head(self, request: Request, kind: Chunk, length: int, *, last: bool = True) -> bytes:
        flags = protocol.LAST if last else 0
        if self.agreement.extended:
            magic = protocol.EXTENDED_REPLY_MAGIC
            return protocol.EXTENDED_CHUNK.pack(magic, flags, kind, request.cookie, request.offset, length)
        return protocol.CHUNK.pack(protocol.CHUNK_MAGIC, flags, kind, request.cookie, length)

    def _chunk(self, request: Request, kind: Chunk, body: bytes, *, last: bool = True) -> bytes:
        return self._head(request, kind, len(body), last=last) + body


_NAMES: dict[int, str] = {
    Command.READ: "read", Command.WRITE: "write", Command.FLUSH: "flush", Command.TRIM: "trim",
    Command.CACHE: "cache", Command.WRITE_ZEROES: "write zeroes", Command.BLOCK_STATUS: "block status",
}  # fmt: skip
