"""The puppeteer of one machine: everything that a test can make happen, as typed methods.

    puppeteer = virtual_machine.play()
    puppeteer.guest.set(boot_time="2s", on_powerdown=GuestAction.NONE)
    puppeteer.guest.reboot()
    puppeteer.clock.advance(90)

The methods are the control socket's commands (`qmpd.control.declaration`), in groups.  They are to be called in
the thread that runs the machine, between two passes of its main loop; none of them waits.  What the clients have
sent by then is executed before, and what a method brings about (the main loop's turns, events, replies) has
happened when it returns.  That, and a virtual clock, is why the same steps give the same transcript.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.control.agent import AgentControl
from qmpd.control.faults import FaultControl
from qmpd.control.guest import GuestControl
from qmpd.control.jobs import JobControl
from qmpd.control.recorder import EntryKind, TranscriptEntry
from qmpd.control.replies import ReplyControl
from qmpd.control.stage import Stage
from qmpd.control.time import ClockControl
from qmpd.control.transcript import TranscriptControl
from qmpd.control.values import MISSING
from qmpd.monitor.session import Session

if TYPE_CHECKING:
    from qmpd.control.declaration import Group
    from qmpd.control.host import Host
    from qmpd.machine import Event, RunState

GROUPS: dict[str, type[Group]] = {
    "guest": GuestControl,
    "agent": AgentControl,
    "clock": ClockControl,
    "faults": FaultControl,
    "jobs": JobControl,
    "replies": ReplyControl,
    "transcript": TranscriptControl,
}
"""The groups of commands, by the attribute of `Puppeteer` that has them."""

EVENTS: dict[str, Any] = {"TRANSCRIPT": TranscriptEntry}
"""The control socket's events, each with the type of its data."""


class Puppeteer(Stage):
    """Plays one machine.

    `guest`, `agent`, `clock`, `faults`, `jobs`, `replies` and `transcript` are its groups of methods.  `recorder` may
    be followed.
    """

    __slots__ = ("agent", "clock", "faults", "guest", "jobs", "replies", "transcript")

    def __init__(self, host: Host) -> None:
        """Take the strings of a machine; clients that are there already count as connected now."""
        super().__init__(host)
        self.guest = GuestControl(self)
        self.agent = AgentControl(self)
        self.clock = ClockControl(self)
        self.faults = FaultControl(self)
        self.jobs = JobControl(self)
        self.replies = ReplyControl(self)
        self.transcript = TranscriptControl(self)
        host.dispatcher.points = self.interceptor
        self.watch()
        self.recorder.record(EntryKind.STARTED, release=self.release.name, name=host.system.settings.name)
        for session in host.dispatcher.sessions:
            if type(session) is Session:
                self.interceptor.adopt(session)

    def watch(self) -> None:
        """Watch the machine; to be called again where the host has got another one."""
        self.machine.observer = self
        self.machine.activities.points = self.interceptor

    def finish(self, status: int) -> None:
        """The machine has ended."""
        self.recorder.record(EntryKind.ENDED, status=status)

    # What the machine tells (`qmpd.machine.machine.Observer`).

    def state_changed(self, old: RunState, new: RunState) -> None:
        """Write down that the run state has changed."""
        self.recorder.record(EntryKind.RUN_STATE, from_=str(old), to=str(new))

    def emitted(self, event: Event) -> None:
        """Write down that an event is emitted."""
        self.recorder.record(EntryKind.EVENT, event=event.name, data=MISSING if event.data is None else event.data)

    def guest_step(self, name: str) -> None:
        """Write down what the guest does next."""
        self.recorder.record(EntryKind.GUEST, step=name)
