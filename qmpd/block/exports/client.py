"""The client's side of NBD: choosing an export, reading and writing it.

What carries the bytes is somebody else's (`Stream`); all of it may wait for the server, so it is done in threads.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.block.exports import protocol
from qmpd.block.exports.protocol import BASE, Chunk, Command, Export, Flag, Handshake, Info, Option, OptionReply
from qmpd.block.images.errors import failure
from qmpd.common.refusals import Refusal, Worded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST_DATA = protocol.LONGEST_REQUEST + 64
_REFUSED: dict[int, str] = {
    OptionReply.UNSUPPORTED: "Unsupported option type {option} ({name})",
    OptionReply.POLICY: "Denied by server for option {option} ({name})",
    OptionReply.INVALID: "Invalid parameters for option {option} ({name})",
    OptionReply.PLATFORM: "Server lacks support for option {option} ({name})",
    OptionReply.TLS_REQUIRED: "TLS negotiation required before option {option} ({name})",
    OptionReply.UNKNOWN: "Requested export not available",
    OptionReply.SHUTDOWN: "Server shutting down before option {option} ({name})",
    OptionReply.BLOCK_SIZE_REQUIRED: "Server requires INFO_BLOCK_SIZE for option {option} ({name})",
}
_NAMES: dict[int, str] = {1: "export name", 5: "starttls", 7: "go", 8: "structured reply", 10: "set meta context"}


class Stream(Protocol):
    """A connection to a server.  Its methods raise EOFError where it has ended, and OSError where it fails."""

    def send(self, data: bytes) -> None:
        """Send all of it."""

    def receive(self, length: int) -> bytes:
        """So many bytes."""

    def start_tls(self, credentials: Mapping[str, Any], hostname: str) -> None:
        """Speak TLS from now on."""

    def close(self, last: bytes = b"") -> None:
        """End it; these bytes go first, unless the server takes none."""


class Session:
    """A connection to one export, once `negotiate` has chosen it.

    `extended`: the client knows of lengths of 64 bits; they are used where the server does, too.
    """

    def __init__(self, stream: Stream, *, extended: bool = False) -> None:
        self._stream = stream
        self._knows_extended = extended
        self.extended = False
        self._structured = False
        self.tells_status = False
        self._cookies = itertools.count(1)
        self.size = 0
        self.flags = 0

    # The negotiation

    def negotiate(
        self, export: str, credentials: Mapping[str, Any] | None = None, hostname: str = "", context: str = BASE
    ) -> None:  # fmt: skip
        """Choose an export; with credentials over TLS.  `context` is what `status` is to tell of.

        :raise Refusal: the server does not speak the protocol, or refuses.
        """
        fixed, no_zeroes = self._greet()
        if credentials is not None:
            if not fixed:
                raise Worded("Server does not support STARTTLS")
            self._option(Option.STARTTLS, b"")
            self._acknowledged(Option.STARTTLS)
            try:
                self._stream.start_tls(credentials, hostname)
            except (OSError, EOFError) as error:
                raise Worded(f"TLS handshake failed: {error}") from None
        if not fixed:
            self._take_by_name(export, no_zeroes=no_zeroes)
            return
        self.extended = self._knows_extended and self._may_have(Option.EXTENDED_HEADERS, b"")
        self._structured = self.extended or self._may_have(Option.STRUCTURED_REPLY, b"")
        if self._structured:
            queries = protocol.text(export) + (1).to_bytes(4, "big") + protocol.text(context)
            self.tells_status = self._may_have(Option.SET_META_CONTEXT, queries)
        if not self._go(export):
            self._take_by_name(export, no_zeroes=no_zeroes)

    def _greet(self) -> tuple[bool, bool]:
        magic = int.from_bytes(self._begin("initial magic", 8), "big")
        if magic != protocol.GREETING:
            raise Worded(f"Bad initial magic received: 0x{magic:016x}")
        magic = int.from_bytes(self._begin("server magic", 8), "big")
        if magic != protocol.OPTION_MAGIC:
            raise Worded(f"Bad server magic received: 0x{magic:016x}")
        flags = int.from_bytes(self._begin("server flags", 2), "big")
        fixed, no_zeroes = bool(flags & Handshake.FIXED_NEWSTYLE), bool(flags & Handshake.NO_ZEROES)
        self._stream.send(protocol.CLIENT_FLAGS.pack(flags & (Handshake.FIXED_NEWSTYLE | Handshake.NO_ZEROES)))
        return fixed, no_zeroes

    def _begin(self, what: str, length: int) -> bytes:
        try:
            return self._stream.receive(length)
        except EOFError:
            raise Refusal("nbd-ended", what=what) from None
        except OSError as error:
            raise Worded(f"Failed to read {what}: Unable to read from socket: {error.strerror}") from None

    def _option(self, option: Option, data: bytes) -> None:
        self._stream.send(protocol.OPTION.pack(protocol.OPTION_MAGIC, option, len(data)) + data)

    def _answer(self, option: Option) -> tuple[int, bytes]:
        """What the server answers to an option."""
        magic, answered, kind, length = protocol.OPTION_REPLY.unpack(
            self._begin("option reply", protocol.OPTION_REPLY.size)
        )
        if magic != protocol.OPTION_REPLY_MAGIC:
            raise Worded("Unexpected option reply magic")
        if answered != option:
            raise Worded(f"Unexpected option type {answered} ({_NAMES.get(answered, '<unknown>')}), expected {option}")
        if length > _MOST_DATA:
            raise Worded(f"server replied with too large an option reply ({length})")
        return kind, self._begin("option reply", length) if length else b""

    def _refused(self, option: Option, kind: int, data: bytes) -> Worded:
        name = _NAMES.get(option, "<unknown>")
        known = _REFUSED.get(kind, "Unknown error code when asking for option {option} ({name})")
        hints: tuple[str, ...] = ()
        if kind == OptionReply.TLS_REQUIRED:
            hints = ("Did you forget a valid tls-creds?",)
        if data:
            hints = (*hints, f"server reported: {data.decode('utf-8', 'replace')}")
        return Worded(known.format(option=int(option), name=name), hints)

    def _acknowledged(self, option: Option) -> None:
        kind, data = self._answer(option)
        if kind != OptionReply.ACK:
            raise self._refused(option, kind, data)

    def _may_have(self, option: Option, data: bytes) -> bool:
        """Ask for what a server may not know; whether it does, and tells of something where that is asked for."""
        self._option(option, data)
        found = option in (Option.STRUCTURED_REPLY, Option.EXTENDED_HEADERS)
        while True:
            kind, _ = self._answer(option)
            if kind == OptionReply.ACK:
                return found
            if kind & protocol.IS_REFUSAL:
                return False
            found = True

    def _go(self, export: str) -> bool:
        """Choose the export; False where the server does not know how."""
        asked = (1).to_bytes(2, "big") + Info.BLOCK_SIZE.to_bytes(2, "big")
        self._option(Option.GO, protocol.text(export) + asked)
        while True:
            kind, data = self._answer(Option.GO)
            if kind == OptionReply.ACK:
                return True
            if kind == OptionReply.UNSUPPORTED:
                return False
            if kind & protocol.IS_REFUSAL:
                raise self._refused(Option.GO, kind, data)
            if data[:2] == Info.EXPORT.to_bytes(2, "big") and len(data) == 2 + protocol.SIZE_AND_FLAGS.size:
                self.size, self.flags = protocol.SIZE_AND_FLAGS.unpack(data[2:])

    def _take_by_name(self, export: str, *, no_zeroes: bool) -> None:
        self._option(Option.EXPORT_NAME, export.encode("utf-8", "surrogateescape"))
        self.size, self.flags = protocol.SIZE_AND_FLAGS.unpack(
            self._begin("export length", protocol.SIZE_AND_FLAGS.size)
        )
        if not no_zeroes:
            self._begin("reserved block", protocol.RESERVED)

    # The transmission

    @property
    def is_read_only(self) -> bool:
        """Whether the server takes no writes."""
        return bool(self.flags & Export.READ_ONLY)

    def read(self, offset: int, length: int) -> bytes:
        """Read.

        :raise OSError: the server has failed, or is gone (ConnectionError).
        """
        into = bytearray(length)
        for at in range(0, length, protocol.LONGEST_REQUEST):
            part = min(protocol.LONGEST_REQUEST, length - at)
            self._ask(Command.READ, offset + at, part, into=memoryview(into)[at : at + part])
        return bytes(into)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write.

        :raise OSError: as for `read`.
        """
        view = memoryview(data)
        for at in range(0, len(view), protocol.LONGEST_REQUEST):
            part = view[at : at + protocol.LONGEST_REQUEST]
            self._ask(Command.WRITE, offset + at, len(part), data=bytes(part))

    def zero(self, offset: int, length: int, *, unmap: bool) -> None:
        """Let them be zeros.

        :raise OSError: as for `read`.
        """
        flags = 0 if unmap else Flag.NO_HOLE
        if self.extended and self.flags & Export.SEND_WRITE_ZEROES:
            self._ask(Command.WRITE_ZEROES, offset, length, flags=flags)
            return
        for at in range(0, length, protocol.LONGEST_REQUEST):
            part = min(protocol.LONGEST_REQUEST, length - at)
            if self.flags & Export.SEND_WRITE_ZEROES:
                self._ask(Command.WRITE_ZEROES, offset + at, part, flags=flags)
            else:
                self._ask(Command.WRITE, offset + at, part, data=bytes(part))

    def discard(self, offset: int, length: int) -> None:
        """Nobody needs them; nothing happens where the server takes no such requests.

        :raise OSError: as for `read`.
        """
        if self.flags & Export.SEND_TRIM:
            for at in range(0, length, protocol.LONGEST_REQUEST):
                self._ask(Command.TRIM, offset + at, min(protocol.LONGEST_REQUEST, length - at))

    def flush(self) -> None:
        """Return when all that was written survives.

        :raise OSError: as for `read`.
        """
        if self.flags & Export.SEND_FLUSH:
            self._ask(Command.FLUSH, 0, 0)

    def status(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Lengths, and what the context tells of them (`protocol.HOLE`, `protocol.ZERO`).

        :raise OSError: as for `read`.
        """
        end = offset + length
        while offset < end:
            if not self.tells_status:
                yield end - offset, 0
                return
            asked = min(end - offset, 1 << 30)
            found = self._ask(Command.BLOCK_STATUS, offset, asked, flags=0) or [(asked, 0)]
            for part, told in found:
                part = min(part, end - offset)
                if part:
                    yield part, told
                offset += part

    def close(self) -> None:
        """Take leave."""
        self._stream.close(self._request(Command.DISCONNECT, 0, 0, 0, 0))

    def _request(self, command: Command, flags: int, cookie: int, offset: int, length: int) -> bytes:
        if not self.extended:
            return protocol.REQUEST.pack(protocol.REQUEST_MAGIC, flags, command, cookie, offset, length)
        flags |= Flag.PAYLOAD_LENGTH if command is Command.WRITE else 0
        magic = protocol.EXTENDED_REQUEST_MAGIC
        return protocol.EXTENDED_REQUEST.pack(magic, flags, command, cookie, offset, length)

    def _ask(
        self, command: Command, offset: int, length: int, *, flags: int = 0, data: bytes = b"",
        into: memoryview | None = None,
    ) -> list[tuple[int, int]]:  # fmt: skip
        """Send a request and take its reply: what was read is put into `into`, the parts of a status are given."""
        cookie = next(self._cookies)
        try:
            self._stream.send(self._request(command, flags, cookie, offset, length) + data)
            error, found = self._reply(cookie, offset, into)
        except EOFError:
            raise ConnectionResetError(0, "") from None
        if error:
            raise failure(error)
        return found

    def _reply(self, cookie: int, offset: int, into: memoryview | None) -> tuple[int, list[tuple[int, int]]]:
        stream = self._stream
        found: list[tuple[int, int]] = []
        failed = 0
        while True:
            magic = int.from_bytes(stream.receive(4), "big")
            if magic == protocol.SIMPLE_REPLY_MAGIC and not self.extended:
                error, told = int.from_bytes(stream.receive(4), "big"), int.from_bytes(stream.receive(8), "big")
                if told != cookie:
                    raise EOFError
                if not error and into is not None:
                    into[:] = stream.receive(len(into))
                return error, found
            known = protocol.EXTENDED_REPLY_MAGIC if self.extended else protocol.CHUNK_MAGIC
            if magic != known or not self._structured:
                raise EOFError
            layout = protocol.EXTENDED_CHUNK if self.extended else protocol.CHUNK
            # The offset of an extended one is known.
            _, flags, kind, told, *_, length = layout.unpack(
                magic.to_bytes(4, "big") + stream.receive(layout.size - 4)
            )
            if told != cookie or length > _MOST_DATA:
                raise EOFError
            body = stream.receive(length) if length else b""
            failed = self._take_chunk(kind, body, offset, into, found) or failed
            if flags & protocol.LAST:
                return failed, found

    @staticmethod
    def _take_chunk(
        kind: int, body: bytes, offset: int, into: memoryview | None, found: list[tuple[int, int]]
    ) -> int:
        """Take note of a part of a reply; the error that it tells of, 0 without one."""
        if kind & protocol.IS_ERROR:
            return int.from_bytes(body[:4], "big") or 5
        if kind == Chunk.BLOCK_STATUS:
            found += [protocol.EXTENT.unpack_from(body, at) for at in range(4, len(body) - 7, 8)]
        elif kind == Chunk.EXTENDED_BLOCK_STATUS:
            found += [protocol.EXTENDED_EXTENT.unpack_from(body, at) for at in range(8, len(body) - 15, 16)]
        elif kind in (Chunk.DATA, Chunk.HOLE) and into is not None:
            at = int.from_bytes(body[:8], "big") - offset
            part = body[8:] if kind == Chunk.DATA else bytes(min(len(into), int.from_bytes(body[8:12], "big")))
            if not 0 <= at <= len(into) - len(part):
                raise EOFError
            into[at : at + len(part)] = part
        return 0
