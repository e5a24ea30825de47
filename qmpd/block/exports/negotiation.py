"""The server's side of the negotiation: which export a client wants, and what both can do.

```
flags -> options <-> tls
            |
            v
       transmission (or closed, from each)
```

`receive` takes bytes, `next_event` gives what has come of them, and `take` the bytes that are owed to the client.  The
texts of refusals are those that QEMU's clients show to their users as "server reported: ...".
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from qmpd.block.exports import protocol
from qmpd.block.exports.protocol import BASE, BITMAP, DEPTH, Handshake, Info, Option, OptionReply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_LONGEST_OPTION = 1 << 20
# So many characters of a name are told in errors.
_TOLD = 80
_PREFERRED = 4096
_BEFORE_TLS = frozenset({Option.STARTTLS, Option.ABORT})


class Offer(Protocol):
    """An export, as clients are told of it."""

    @property
    def name(self) -> str:
        """What clients call it."""

    @property
    def description(self) -> str:
        """A sentence about it; empty without one."""

    @property
    def size(self) -> int:
        """How many bytes it has."""

    @property
    def flags(self) -> int:
        """What can be done with it (`protocol.Export`)."""

    @property
    def alignment(self) -> int:
        """What offsets and lengths have to be multiples of."""

    @property
    def contexts(self) -> Sequence[str]:
        """The contexts of its block status, by name; the place of each is its number."""


class Catalogue(Protocol):
    """The exports of a server."""

    def offers(self) -> Iterable[Offer]:
        """All of them."""

    def offer(self, name: str) -> Offer | None:
        """The one of this name."""


def _short(name: str) -> str:
    """A name as errors tell it, so that a client that made up a long one does not get all of it back."""
    return name if len(name) < _TOLD else f"{name[:_TOLD]}..."


class Phase(enum.StrEnum):
    """How far the negotiation is."""

    FLAGS = "flags"
    OPTIONS = "options"
    TLS = "tls"
    TRANSMISSION = "transmission"
    CLOSED = "closed"


TRANSITIONS = {
    Phase.FLAGS: frozenset({Phase.OPTIONS, Phase.CLOSED}),
    Phase.OPTIONS: frozenset({Phase.TLS, Phase.TRANSMISSION, Phase.CLOSED}),
    Phase.TLS: frozenset({Phase.OPTIONS, Phase.CLOSED}),
    Phase.TRANSMISSION: frozenset(),
    Phase.CLOSED: frozenset(),
}
"""Which phase may follow which."""


@dataclass(slots=True)
class Agreement:
    """What both sides have agreed on: `contexts` are the numbers of those that the client wants to hear of.

    `structured`: replies may be of several chunks; `extended`: lengths have 64 bits, and all replies are chunks.
    """

    offer: Offer
    structured: bool = False
    extended: bool = False
    contexts: tuple[int, ...] = ()


class Event(enum.Enum):
    """What a server has to do."""

    NEED_DATA = "wait for more bytes"
    START_TLS = "send what is owed, then speak TLS, then call `tls_started`"
    CHOSEN = "send what is owed; `agreement` says what the client wants"
    HANG_UP = "send what is owed and close the connection"


@dataclass(slots=True)
class _Buffer:
    """Bytes that have come: messages are taken from the front, a part of them is to be passed over."""

    data: bytearray = field(default_factory=bytearray)
    skipped: int = 0

    def add(self, data: bytes) -> None:
        passed = min(self.skipped, len(data))
        self.skipped -= passed
        self.data += data[passed:] if passed else data

    def skip(self, length: int) -> None:
        passed = min(length, len(self.data))
        del self.data[:passed]
        self.skipped += length - passed


class _InvalidOptionError(Exception):
    """An option's data cannot be read."""


class _Fields:
    """Reads an option's data from its beginning to its end.

    Each method raises `_InvalidOptionError` where there is too little.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> bytes:
        if self._at + length > len(self._data):
            raise _InvalidOptionError("Option length is too short")
        self._at += length
        return self._data[self._at - length : self._at]

    def integer(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def string(self, what: str = "") -> str:
        length = self.integer(4)
        if length > protocol.LONGEST_STRING:
            if not what:
                self.take(length)
                return ""
            raise _InvalidOptionError(f"Invalid {what} length: {length}")
        return self.take(length).decode("utf-8", "surrogateescape")

    def end(self) -> None:
        if self._at != len(self._data):
            raise _InvalidOptionError("Option length is too long")


class Negotiation:
    """The negotiation with one client.

    `tls`: it must speak TLS before anything else; `extended`: the server knows of lengths of 64 bits.
    """

    def __init__(self, catalogue: Catalogue, *, tls: bool = False, extended: bool = False) -> None:
        self.phase = Phase.FLAGS
        self.agreement: Agreement | None = None
        self._catalogue = catalogue
        self._needs_tls = tls
        self._tls = False
        self._zeroes = True
        self._structured = self._extended = False
        # The export and the contexts of the last SET_META_CONTEXT.
        self._wanted: tuple[str, tuple[int, ...]] = ("", ())
        self._buffer = _Buffer()
        flags = Handshake.FIXED_NEWSTYLE | Handshake.NO_ZEROES
        self._owed = bytearray(protocol.HELLO.pack(protocol.GREETING, protocol.OPTION_MAGIC, flags))
        self._answers: dict[int, Callable[[bytes], Event | None]] = {
            Option.EXPORT_NAME: self._export_name,
            Option.ABORT: self._abort,
            Option.LIST: self._list,
            Option.STARTTLS: self._start_tls,
            Option.INFO: lambda data: self._information(Option.INFO, data),
            Option.GO: lambda data: self._information(Option.GO, data),
            Option.STRUCTURED_REPLY: self._structured_reply,
            Option.LIST_META_CONTEXT: lambda data: self._meta(Option.LIST_META_CONTEXT, data),
            Option.SET_META_CONTEXT: lambda data: self._meta(Option.SET_META_CONTEXT, data),
        }
        if extended:
            self._answers[Option.EXTENDED_HEADERS] = self._extended_headers

    def _enter(self, phase: Phase) -> None:
        if phase not in TRANSITIONS[self.phase]:
            raise AssertionError(f"a negotiation does not go from '{self.phase}' to '{phase}'")
        self.phase = phase

    # Bytes

    def receive(self, data: bytes) -> None:
        """These bytes have come."""
        self._buffer.add(data)

    def take(self) -> bytes:
        """What is to be sent by now; it is not given again."""
        owed, self._owed = bytes(self._owed), bytearray()
        return owed

    def rest(self) -> bytes:
        """What has come and is not of the negotiation any more."""
        rest, self._buffer = bytes(self._buffer.data), _Buffer()
        return rest

    def next_event(self) -> Event:
        """What is to be done now."""
        while True:
            if self.phase is Phase.CLOSED:
                return Event.HANG_UP
            if self.phase is Phase.TLS:
                return Event.START_TLS
            if self.phase is Phase.TRANSMISSION:
                return Event.CHOSEN
            event = self._flags() if self.phase is Phase.FLAGS else self._option()
            if event is not None:
                return event

    def tls_started(self) -> None:
        """The connection is encrypted from now on; what came before that is forgotten."""
        self._enter(Phase.OPTIONS)
        self._tls = True
        self._buffer = _Buffer()
        self._wanted = ("", ())
        self._structured = self._extended = False

    def _hang_up(self) -> Event:
        self._enter(Phase.CLOSED)
        return Event.HANG_UP

    def _flags(self) -> Event | None:
        data = self._buffer.data
        if len(data) < protocol.CLIENT_FLAGS.size:
            return Event.NEED_DATA
        (flags,) = protocol.CLIENT_FLAGS.unpack_from(data)
        del data[: protocol.CLIENT_FLAGS.size]
        if not flags & Handshake.FIXED_NEWSTYLE or flags & ~(Handshake.FIXED_NEWSTYLE | Handshake.NO_ZEROES):
            return self._hang_up()
        self._zeroes = not flags & Handshake.NO_ZEROES
        self._enter(Phase.OPTIONS)
        return None

    def _option(self) -> Event | None:
        data = self._buffer.data
        if self._buffer.skipped or len(data) < protocol.OPTION.size:
            return Event.NEED_DATA
        magic, option, length = protocol.OPTION.unpack_from(data)
        if magic != protocol.OPTION_MAGIC or length > protocol.LONGEST_REQUEST:
            return self._hang_up()
        whole = protocol.OPTION.size + length
        refused = self._refused_at_once(option, length)
        if refused is not None:
            self._buffer.skip(whole)
            return refused()
        if len(data) < whole:
            return Event.NEED_DATA
        body = bytes(data[protocol.OPTION.size : whole])
        del data[:whole]
        try:
            return self._answers[option](body)
        except _InvalidOptionError as error:
            self._refuse(option, OptionReply.INVALID, str(error))
            return None

    def _refused_at_once(self, option: int, length: int) -> Callable[[], Event | None] | None:
        """What answers an option whose data nobody needs; None where it does."""
        if self._needs_tls and not self._tls and option not in _BEFORE_TLS:
            if option == Option.EXPORT_NAME:
                return self._hang_up
            text = f"Option 0x{option:x} not permitted before TLS"
            return lambda: self._refuse(option, OptionReply.TLS_REQUIRED, text)
        if option not in self._answers:
            # Who does not know of them has no name for them either.
            called = _called(option if option != Option.EXTENDED_HEADERS else 0)
            text = f"Unsupported option {option} ({called})"
            return lambda: self._refuse(option, OptionReply.UNSUPPORTED, text)
        if length > _LONGEST_OPTION:
            if option == Option.EXPORT_NAME:
                return self._hang_up
            return lambda: self._refuse(option, OptionReply.TOO_BIG, "Option is too long")
        return None

    # Answers

    def _reply(self, option: int, kind: OptionReply, data: bytes = b"") -> None:
        self._owed += protocol.OPTION_REPLY.pack(protocol.OPTION_REPLY_MAGIC, option, kind, len(data)) + data

    def _refuse(self, option: int, kind: OptionReply, why: str) -> None:
        self._reply(option, kind, why.encode("utf-8", "surrogateescape")[: protocol.LONGEST_STRING])

    def _choose(self, offer: Offer, *, named: bool = False) -> None:
        contexts = () if named or self._wanted[0] != offer.name else self._wanted[1]
        self.agreement = Agreement(offer, self._structured, self._extended, contexts)
        self._enter(Phase.TRANSMISSION)

    def flags(self, offer: Offer, *, asked: bool = False) -> int:
        """What can be done with an export over this connection; `asked`: the client does not use it yet."""
        may_choose = self._extended and (asked or bool(self._wanted[1] and self._wanted[0] == offer.name))
        found = offer.flags | (protocol.Export.SEND_DF if self._structured else 0)
        return found | (protocol.Export.BLOCK_STATUS_PAYLOAD if may_choose else 0)

    def _export_name(self, data: bytes) -> Event | None:
        """The oldest way to choose an export, which cannot be refused but by hanging up."""
        offer = self._catalogue.offer(data.decode("utf-8", "surrogateescape"))
        if len(data) > protocol.LONGEST_STRING or offer is None or self._extended:
            return self._hang_up()
        self._owed += protocol.SIZE_AND_FLAGS.pack(offer.size, self.flags(offer))
        if self._zeroes:
            self._owed += bytes(protocol.RESERVED)
        self._choose(offer, named=True)
        return None

    def _abort(self, data: bytes) -> Event:
        self._reply(Option.ABORT, OptionReply.ACK)
        return self._hang_up()

    def _without_data(self, data: bytes, option: Option) -> None:
        if data:
            raise _InvalidOptionError(f"option '{_called(option)}' has unexpected length {len(data)}")

    def _list(self, data: bytes) -> None:
        self._without_data(data, Option.LIST)
        for offer in self._catalogue.offers():
            about = offer.description.encode("utf-8", "surrogateescape")
            self._reply(Option.LIST, OptionReply.SERVER, protocol.text(offer.name) + about)
        self._reply(Option.LIST, OptionReply.ACK)

    def _start_tls(self, data: bytes) -> None:
        self._without_data(data, Option.STARTTLS)
        if self._tls:
            self._refuse(Option.STARTTLS, OptionReply.INVALID, "TLS already enabled")
        elif not self._needs_tls:
            self._refuse(Option.STARTTLS, OptionReply.POLICY, "TLS not configured")
        else:
            self._reply(Option.STARTTLS, OptionReply.ACK)
            self._enter(Phase.TLS)

    def _structured_reply(self, data: bytes) -> None:
        self._without_data(data, Option.STRUCTURED_REPLY)
        if self._extended:
            text = "extended headers already negotiated"
            self._refuse(Option.STRUCTURED_REPLY, OptionReply.EXTENDED_HEADERS_REQUIRED, text)
        elif self._structured:
            self._refuse(Option.STRUCTURED_REPLY, OptionReply.INVALID, "structured reply already negotiated")
        else:
            self._structured = True
            self._reply(Option.STRUCTURED_REPLY, OptionReply.ACK)

    def _extended_headers(self, data: bytes) -> None:
        """All that structured replies are, and lengths of 64 bits."""
        self._without_data(data, Option.EXTENDED_HEADERS)
        if self._extended:
            self._refuse(Option.EXTENDED_HEADERS, OptionReply.INVALID, "extended headers already negotiated")
        else:
            self._structured = self._extended = True
            self._reply(Option.EXTENDED_HEADERS, OptionReply.ACK)

    def _information(self, option: Option, data: bytes) -> None:
        fields = _Fields(data)
        name = fields.string("name")
        asked = {fields.integer(2) for _ in range(fields.integer(2))}
        fields.end()
        offer = self._catalogue.offer(name)
        if offer is None:
            self._refuse(option, OptionReply.UNKNOWN, f"export '{_short(name)}' not present")
            return
        if Info.NAME in asked:
            self._tell(option, Info.NAME, name.encode("utf-8", "surrogateescape"))
        if offer.description and Info.DESCRIPTION in asked:
            self._tell(option, Info.DESCRIPTION, offer.description.encode("utf-8", "surrogateescape"))
        knows_sizes = Info.BLOCK_SIZE in asked
        smallest = offer.alignment if option is Option.INFO or knows_sizes else 1
        sizes = smallest, max(_PREFERRED, smallest), protocol.LONGEST_REQUEST
        self._tell(option, Info.BLOCK_SIZE, b"".join(each.to_bytes(4, "big") for each in sizes))
        flags = self.flags(offer, asked=option is Option.INFO)
        self._tell(option, Info.EXPORT, protocol.SIZE_AND_FLAGS.pack(offer.size, flags))
        if option is Option.INFO and not knows_sizes and offer.alignment > 1:
            text = "request NBD_INFO_BLOCK_SIZE to use this export"
            self._refuse(option, OptionReply.BLOCK_SIZE_REQUIRED, text)
            return
        self._reply(option, OptionReply.ACK)
        if option is Option.GO:
            self._choose(offer)

    def _tell(self, option: Option, what: Info, data: bytes) -> None:
        self._reply(option, OptionReply.INFO, what.to_bytes(2, "big") + data)

    def _meta(self, option: Option, data: bytes) -> None:
        """The contexts of block status: those that there are, or those that the client wants to hear of."""
        if not self._structured:
            text = f"request option '{_called(option)}' when structured reply is not negotiated"
            self._refuse(option, OptionReply.INVALID, text)
            return
        if option is Option.SET_META_CONTEXT:
            self._wanted = ("", ())
        fields = _Fields(data)
        name = fields.string("name")
        offer = self._catalogue.offer(name)
        if offer is None:
            self._refuse(option, OptionReply.UNKNOWN, f"export '{_short(name)}' not present")
            return
        queries = [fields.string() for _ in range(fields.integer(4))]
        fields.end()
        lists = option is Option.LIST_META_CONTEXT
        found = [
            number for number, context in enumerate(offer.contexts)
            if (lists and not queries) or any(_matches(context, query, lists=lists) for query in queries)
        ]  # fmt: skip
        for number in found:
            told = 0 if lists else number
            self._reply(option, OptionReply.META_CONTEXT, told.to_bytes(4, "big") + offer.contexts[number].encode())
        self._reply(option, OptionReply.ACK)
        if not lists:
            self._wanted = name, tuple(found)


def _matches(context: str, query: str, *, lists: bool) -> bool:
    """Whether a query means a context; with a part of the name one may ask which there are."""
    return query == context or (lists and query in _beginnings(context))


def _beginnings(context: str) -> Iterator[str]:
    if context == BASE:
        yield "base:"
    else:
        yield "qemu:"
        if context != DEPTH:
            yield BITMAP


def _called(option: int) -> str:
    """What QEMU calls an option."""
    return _NAMES.get(option, "<unknown>")


_NAMES = {
    1: "export name", 2: "abort", 3: "list", 4: "peek", 5: "starttls", 6: "info", 7: "go", 8: "structured reply",
    9: "list meta context", 10: "set meta context", 11: "extended headers",
}  # fmt: skip
