"""One client's session: what it has sent, what is owed to it, what it has negotiated.

A session starts in negotiation mode, in which `qmp_capabilities` alone is known and no event arrives; that
command moves it to command mode, for good.  In-band requests wait in a queue and are executed one after
another by the machine's main loop; where out-of-band execution was negotiated at most eight may wait, and
what follows them stays unread (QEMU's docs/interop/qmp-spec, "Out-of-band execution").  A request with
`exec-oob` never waits then; where it was not negotiated it is refused in its turn.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from qmpd.wire import Decoder, ParseError

if TYPE_CHECKING:
    from qmpd.monitor.entry import Entry

QUEUE_LIMIT = 8
"""In-band requests that may wait, once out-of-band execution is negotiated (QMP_REQ_QUEUE_LEN_MAX)."""


PIECE = 1 << 20
"""Bytes that are handed out at once: some more than a socket takes."""


class SessionDispatcher(Protocol):
    """What a session asks of the dispatcher that executes its requests.

    `ready` and `unsent` are where it enters itself when it has a request, or is owed bytes.
    """

    commands: dict[str, Entry | None]
    negotiation_commands: dict[str, Entry | None]
    json_parser: str
    ready: list[Session]
    unsent: list[Session]

    def execute_out_of_band(self, session: Session, message: object) -> None:
        """Execute a request that overtakes the others."""

    def add(self, session: Session) -> None:
        """Have a session among the others."""

    def new_session(self, label: str, pretty: bool) -> Session:
        """Make a session for a client that has been greeted elsewhere."""

    def close_session(self, session: Session) -> None:
        """Forget a client."""


class Session:
    """One client.  `serve` hands in bytes with `receive` and takes out what `take_outgoing` gives.

    `slices` are how many bytes are best handed in at once, at first and as long as it goes quickly: what is no JSON
    costs some 10 microseconds a byte, and the others wait for it.  `lives_on`: another process can go on with it (a
    live update).  `is_monitor`: it is a client of a monitor, QMP or human.
    """

    slices = (1 << 10, 1 << 12)
    lives_on = True
    is_monitor = True

    __slots__ = (
        "_backlog",
        "broken",
        "client",
        "commands",
        "congested",
        "decoder",
        "deferred",
        "dispatcher",
        "ended",
        "held",
        "label",
        "negotiated",
        "out_of_band",
        "outgoing",
        "outgoing_size",
        "owner",
        "parked",
        "pretty",
        "queue",
        "scheduled",
        "severed",
        "unsent",
    )

    def __init__(self, dispatcher: SessionDispatcher, *, label: str, pretty: bool) -> None:
        self.dispatcher = dispatcher
        self.label = label
        self.pretty = pretty
        self.decoder = Decoder(dispatcher.json_parser)
        self.negotiated = False
        self.out_of_band = False
        self.commands: dict[str, Entry | None] = dispatcher.negotiation_commands
        self.queue: deque[object] = deque()
        self._backlog: deque[object] | None = None
        self.outgoing: list[bytes] = []
        self.outgoing_size = 0
        self.scheduled = False
        # So much is owed to the client that its requests wait (`congested`); whether one does.
        self.congested = False
        self.parked = False
        self.unsent = False
        self.broken: str | None = None
        self.severed = False
        self.ended = False
        # Whether the reply to its last request is still to come, and that request where it is being executed.
        self.held = False
        self.deferred: object = None
        self.owner: object = None
        # What an interceptor keeps about the client.
        self.client: object = None

    def receive(self, data: bytes) -> None:
        """Take bytes from the client; what they complete is queued, or executed where it is out-of-band."""
        messages = self.decoder.feed(data)
        if messages:
            if self._backlog is not None:
                self._backlog.extend(messages)
            else:
                self._admit(messages)

    def receive_plain(self, data: bytes) -> bool:
        """The same where that takes little time, however much it is; otherwise nothing is taken, and False the answer.

        Nothing may be waiting unread (`paused`).
        """
        messages = self.decoder.feed_plain(data)
        if messages is None:
            return False
        self._admit(messages)
        return True

    def fail(self, text: str) -> None:
        """Answer with an error in the place of what could not be read; nothing more will come from the client."""
        self.decoder = Decoder(self.dispatcher.json_parser)
        failure = ParseError(text)
        if self._backlog is not None:
            self._backlog.append(failure)
        else:
            self._admit([failure])

    def _admit(self, messages: list[object] | deque[object]) -> None:
        queue = self.queue
        limited = self.out_of_band
        for position, message in enumerate(messages):
            if (
                type(message) is dict
                and "exec-oob" in message
                and "execute" not in message
                # Where it was not negotiated QEMU reads one request at a time, so none can be overtaken; where it was,
                # what is behind a full queue has not been read.
                and (len(queue) < QUEUE_LIMIT if limited else not (queue or self.scheduled))
            ):
                self.dispatcher.execute_out_of_band(self, message)
            elif limited and len(queue) >= QUEUE_LIMIT:
                self._backlog = deque(messages)
                for _ in range(position):
                    self._backlog.popleft()
                break
            else:
                queue.append(message)
        if queue and not self.scheduled:
            self.scheduled = True
            self.dispatcher.ready.append(self)

    def refill(self) -> None:
        """Move what waited unread into the queue, as far as there is room."""
        backlog = self._backlog
        if backlog is not None:
            self._backlog = None
            self._admit(backlog)

    @property
    def paused(self) -> bool:
        """Whether nothing more is to be read from this client for now."""
        return self.congested or self._backlog is not None or len(self.queue) >= QUEUE_LIMIT

    def park(self) -> None:
        """Leave the requests where they are until `relieve`: the session has been taken out of `ready`."""
        self.parked = True

    def relieve(self) -> None:
        """Be congested no more: go on with the requests."""
        self.congested = False
        if self.parked:
            self.parked = False
            self.dispatcher.ready.append(self)

    @property
    def drained(self) -> bool:
        """Whether everything received has been executed."""
        return self._backlog is None and not self.queue and not self.held

    def backlog(self) -> list[object]:
        """What was received and neither executed nor queued."""
        return list(self._backlog or ())

    def send(self, data: bytes) -> None:
        """Owe `data` to the client."""
        self.outgoing.append(data)
        self.outgoing_size += len(data)
        if not self.unsent:
            self.unsent = True
            self.dispatcher.unsent.append(self)

    def sever(self, reason: str) -> None:
        """Have the connection closed at once; nothing that is still owed arrives."""
        self.broken = reason
        self.severed = True
        if not self.unsent:
            self.unsent = True
            self.dispatcher.unsent.append(self)

    def take_outgoing(self, most: int = PIECE) -> bytes:
        """What is owed, as one piece of some `most` bytes; the caller now answers for its delivery."""
        outgoing = self.outgoing
        size = count = 0
        for each in outgoing:
            size += len(each)
            count += 1
            if size >= most:
                break
        data = b"".join(outgoing[:count])
        del outgoing[:count]
        self.outgoing_size -= size
        return data

    def withdraw(self) -> None:
        """Have nothing more to do with the dispatcher; what was asked for and not executed is dropped."""
        self.ended = True
        self.queue.clear()
        self._backlog = None
        # Where nothing happens it would be remembered there for ever.
        if self in self.dispatcher.ready:
            self.dispatcher.ready.remove(self)
        if not self.severed and self in self.dispatcher.unsent:
            self.dispatcher.unsent.remove(self)

    def drop_outgoing(self) -> None:
        """Owe the client nothing: it is gone."""
        self.outgoing.clear()
        self.outgoing_size = 0

    def negotiate(self, out_of_band: bool) -> None:
        """Leave negotiation mode for command mode."""
        self.out_of_band = out_of_band
        self.negotiated = True
        self.commands = self.dispatcher.commands
        if out_of_band and self.queue:
            # What came along with this request is looked at only now, and may overtake.
            self._backlog = self.queue.copy()
            self.queue.clear()
