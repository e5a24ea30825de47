"""A client's session as it is while somebody plays: written down, and open to faults."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from qmpd.control.transcript import EntryKind
from qmpd.monitor.session import Session
from qmpd.wire import ParseError

if TYPE_CHECKING:
    from qmpd.control.replies import OverriddenCommands
    from qmpd.control.transcript import Recorder
    from qmpd.monitor.dispatcher import Dispatcher


class PuppetSession(Session):
    """A session of a machine that has a puppeteer.

    `number` is the client's in the transcript.  `held`: a reply is being delayed, and the requests behind it
    wait.  `stalled_by`: the fault (its id) that keeps everything from the client; what is owed waits in `kept`.
    `resumed`: the request at the head of the queue has been through a fault that hung the main loop.
    """

    __slots__ = ("held", "kept", "number", "over", "recorder", "resumed", "stalled_by")

    def __init__(self, dispatcher: Dispatcher, recorder: Recorder, number: int, label: str, pretty: bool) -> None:
        super().__init__(dispatcher, label=label, pretty=pretty)
        self.recorder = recorder
        self.number = number
        self.held = False
        self.resumed = False
        self.over = False
        self.stalled_by: int | None = None
        self.kept: deque[bytes] = deque()

    def use(self, negotiating: OverriddenCommands) -> None:
        """Look commands up in this table until the client has negotiated."""
        self.commands = negotiating

    def negotiate(self, out_of_band: bool) -> None:
        """Leave negotiation mode for command mode."""
        table = self.commands
        super().negotiate(out_of_band)
        self.commands = table.negotiated()  # type: ignore[attr-defined]

    def receive(self, data: bytes) -> None:
        """Take bytes from the client, and write down what they complete."""
        messages = self.decoder.feed(data)
        size = len(data)
        for message in messages:
            if isinstance(message, ParseError):
                self.recorder.record(EntryKind.RECEIVED, client=self.number, error=message.message, size=size)
            else:
                self.recorder.record(EntryKind.RECEIVED, client=self.number, message=message, size=size)
            size = 0
        if messages:
            if self._backlog is not None:
                self._backlog.extend(messages)
            else:
                self._admit(messages)

    def send(self, data: bytes) -> None:
        """Owe `data` to the client, unless a fault keeps it."""
        if self.over:
            return
        if self.stalled_by is not None:
            self.kept.append(data)
            return
        self.recorder.record(EntryKind.SENT, client=self.number, raw=data)
        super().send(data)

    @property
    def drained(self) -> bool:
        """Whether everything received has been executed, and no fault keeps anything back."""
        return super().drained and not self.held and self.stalled_by is None

    def stall(self, fault: int, rest: bytes) -> None:
        """Send nothing more until `resume`; `rest` is what comes first then."""
        self.stalled_by = fault
        self.kept.append(rest)

    def resume(self) -> None:
        """Send what was kept, and go on."""
        self.stalled_by = None
        while self.kept:
            self.send(self.kept.popleft())

    def end(self) -> None:
        """The client is gone; the transcript tells of it once."""
        if not self.over:
            self.over = True
            self.recorder.record(EntryKind.DISCONNECTED, client=self.number)
