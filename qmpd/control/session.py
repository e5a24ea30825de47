"""A client's session as it is while somebody plays: written down, and open to faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.control.recorder import EntryKind
from qmpd.monitor.session import Session
from qmpd.wire import ParseError

if TYPE_CHECKING:
    from qmpd.control.client import Client
    from qmpd.control.overrides import OverriddenCommands


class PuppetSession(Session):
    """A session of a machine that has a puppeteer.  An ordinary one becomes one by `adopt`."""

    __slots__ = ()

    # A session has no further slots here, so that its class can be changed.
    client: Client

    @staticmethod
    def adopt(session: Session, client: Client, commands: OverriddenCommands) -> PuppetSession:
        """Make this of a session, which stays the same object; it looks its commands up in `commands`."""
        session.__class__ = PuppetSession
        assert isinstance(session, PuppetSession)
        session.client = client
        session.commands = commands
        return session

    def negotiate(self, out_of_band: bool) -> None:
        """Leave negotiation mode for command mode."""
        table = self.commands
        super().negotiate(out_of_band)
        self.commands = table.negotiated()  # type: ignore[attr-defined]

    def receive(self, data: bytes) -> None:
        """Take bytes from the client, and write down what they complete."""
        messages = self.decoder.feed(data)
        self._record(messages)
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
        self._record(messages)
        self._admit(messages)
        return True

    def _record(self, messages: list[object]) -> None:
        """Write down what has been received."""
        client = self.client
        for message in messages:
            if isinstance(message, ParseError):
                client.recorder.record(EntryKind.RECEIVED, client=client.number, error=message.message)
            else:
                client.recorder.record(EntryKind.RECEIVED, client=client.number, message=message)

    def send(self, data: bytes) -> None:
        """Owe `data` to the client, unless a fault keeps it."""
        client = self.client
        if client.gone:
            return
        if client.stalled_by is not None:
            client.kept.append(data)
            return
        client.recorder.record(EntryKind.SENT, client=client.number, raw=data)
        super().send(data)

    @property
    def drained(self) -> bool:
        """Whether everything received has been executed, and no fault keeps anything back."""
        return super().drained and self.client.stalled_by is None

    def stall(self, fault: int, rest: bytes) -> None:
        """Send nothing more until `resume`; `rest` is what comes first then."""
        self.client.stalled_by = fault
        self.client.kept.append(rest)

    def resume(self) -> None:
        """Send what was kept, and go on."""
        client = self.client
        client.stalled_by = None
        while client.kept:
            self.send(client.kept.popleft())

    def end(self) -> None:
        """The client is gone; the transcript tells of it once."""
        client = self.client
        if not client.gone:
            client.gone = True
            client.recorder.record(EntryKind.DISCONNECTED, client=client.number)
