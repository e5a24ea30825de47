"""The course of a guest's agent: when it opens its port, how long it takes, and what is wrong with it.

```
closed --the operating system runs--> starting --agent-boot-time--> open
   ^--------- a reset, or the agent's own end ---------------------'
```

The states are `TRANSITIONS`.  All of it goes with the machine's own time: a guest that is stopped or asleep hears
nothing, and goes on with it later.  What is wrong (`AgentFault`) is part of the guest's settings, and can be changed at
any time.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.machine.blueprint import AgentFault

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from qmpd.chardev.front_ends import FrontEnd
    from qmpd.guest.agent.agent import Agent
    from qmpd.machine.blueprint import GuestSettings
    from qmpd.schedule.schedule import Schedule

PORT = "org.qemu.guest_agent.0"
"""The name of the agent's virtio-serial port."""
GARBAGE = b"\x00\x1b[0m\xfe}]{{\n"
_FREEZES = frozenset({"guest-fsfreeze-freeze", "guest-fsfreeze-freeze-list"})
_EXEC = "guest-exec"


class PortState(enum.StrEnum):
    """Where the agent is in its course."""

    CLOSED = "closed"
    STARTING = "starting"
    OPEN = "open"


TRANSITIONS: Mapping[PortState, frozenset[PortState]] = {
    PortState.CLOSED: frozenset({PortState.STARTING}),
    PortState.STARTING: frozenset({PortState.OPEN, PortState.CLOSED}),
    PortState.OPEN: frozenset({PortState.CLOSED}),
}
"""Which state may follow which."""


class Dialect(Protocol):
    """What the agent's bytes mean (`qmpd.monitor.agent`)."""

    def receive(self, data: bytes) -> None:
        """Take bytes of a client's."""

    def forget(self) -> None:
        """Begin anew."""

    def snapshot(self) -> dict[str, object]:
        """What is half received."""

    def restore(self, state: dict[str, Any]) -> None:
        """Become what `snapshot` made this of."""


class Place(Protocol):
    """Where the agent's port is in the machine."""

    @property
    def front_end(self) -> FrontEnd | None:
        """What the agent hears and speaks through; None while the machine has no such port."""

    @property
    def is_open(self) -> bool:
        """Whether the port is open, if it is one that is opened at all."""

    def open_port(self, *, opened: bool) -> None:
        """Open or close the port, which the machine tells of."""


class AgentPort:
    """The agent of one machine's guest, which `settings` describe; `runs` tells whether an operating system does."""

    __slots__ = ("_deaf", "_dialect", "_make", "_place", "_resets", "_runs", "_schedule", "_settings", "_unsent",
                 "_wake", "agent", "state")  # fmt: skip

    def __init__(
        self,
        agent: Agent,
        place: Place,
        schedule: Schedule,
        settings: Callable[[], GuestSettings],
        runs: Callable[[], bool],
        make_dialect: Callable[[Callable[[bytes, str], None]], Dialect],
        wake: Callable[[], None],
    ) -> None:
        """`wake` is called where a step is due at once."""
        self.agent = agent
        self.state = PortState.CLOSED
        self._place = place
        self._schedule = schedule
        self._settings = settings
        self._runs = runs
        self._make = make_dialect
        self._wake = wake
        self._dialect: Dialect | None = None
        # Replies that are not sent yet, each with its command.
        self._unsent: list[tuple[bytes, str]] = []
        self._resets = 0
        self._deaf = False

    @property
    def dialect(self) -> Dialect:
        """What its bytes mean."""
        if self._dialect is None:
            self._dialect = self._make(self._reply)
        return self._dialect

    # What happens to it

    def prepare(self) -> None:
        """The machine has its devices: what is written to the port waits for the agent, or is lost."""
        end = self._place.front_end
        if end is not None:
            lost = self.state is not PortState.OPEN and self._settings().agent_early_lost
            end.holds = not lost
            if lost:
                end.unread = None
            end.arrived = self._arrived

    def booted(self) -> None:
        """The operating system runs, or does so again."""
        if self.state is PortState.CLOSED:
            self._enter(PortState.STARTING)
            self._schedule.set(self, "open", self._settings().agent_boot_time)
            return
        if self.state is PortState.OPEN and not self._place.is_open:
            self._place.open_port(opened=True)  # the way out of S3 resets the devices
        self._arrived()

    def reset(self) -> None:
        """The machine has been reset: the port is closed by now."""
        if self.state is not PortState.CLOSED:
            self._resets += 1
            self._close()

    def end(self) -> None:
        """It ends, and closes its port, until the operating system is told to have one again."""
        if self.state is PortState.OPEN:
            self._place.open_port(opened=False)
        if self.state is not PortState.CLOSED:
            self._close()

    def leave(self, *, for_good: bool) -> None:
        """The operating system puts its devices away: before it sleeps, or for good."""
        if for_good:
            self.end()
        elif self.state is PortState.OPEN:
            self._place.open_port(opened=False)

    def _close(self) -> None:
        self._schedule.clear(self)
        self._enter(PortState.CLOSED)
        self._unsent.clear()
        self._deaf = False
        self.dialect.forget()
        self.agent.restart()
        self.prepare()

    def _enter(self, state: PortState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"an agent's port does not go from '{self.state}' to '{state}'")
        self.state = state

    def timer_due(self, name: Hashable) -> None:
        """Take a step (`qmpd.schedule.schedule.Owner`)."""
        if not self._runs():
            return  # it goes on once the operating system does
        if name == "open":
            self._open()
        elif name == "hear":
            self._hear()
        else:
            self._send_next()

    def _open(self) -> None:
        self._enter(PortState.OPEN)
        self._deaf = self._settings().agent_fault is AgentFault.DEAF_AFTER_RESET and self._resets > 0
        self.prepare()
        self._place.open_port(opened=True)
        self._arrived()

    # What it hears and says

    def _arrived(self) -> None:
        if self.state is PortState.OPEN:
            self._schedule.set(self, "hear", 0)
            self._wake()

    def _hear(self) -> None:
        end = self._place.front_end
        if end is None:
            return
        data = end.take()
        if data and not self._deaf and self._settings().agent_fault is not AgentFault.DEAF:
            self.dialect.receive(data)

    def _reply(self, reply: bytes, command: str) -> None:
        settings = self._settings()
        if command == _EXEC and settings.agent_fault is AgentFault.CLOSE_IN_EXEC:
            # It ends in the middle of a command, and is started again.
            self.end()
            self.booted()
            return
        self._unsent.append((reply, command))
        if settings.agent_reply_delay:
            if len(self._unsent) == 1:
                self._schedule.set(self, "reply", settings.agent_reply_delay)
        else:
            self._send_next()

    def _send_next(self) -> None:
        if not self._unsent:
            return
        reply, command = self._unsent.pop(0)
        settings = self._settings()
        if self._unsent:
            self._schedule.set(self, "reply", settings.agent_reply_delay)
        end = self._place.front_end
        if end is None:
            return
        if settings.agent_fault is AgentFault.GARBAGE:
            end.say(GARBAGE)
        end.say(reply[: len(reply) // 2] if settings.agent_fault is AgentFault.HALF_REPLY else reply)
        if command in _FREEZES and settings.agent_fault is AgentFault.DEAF_AFTER_FREEZE:
            self._deaf = True

    # Another process

    def snapshot(self) -> dict[str, Any]:
        """All of it as plain data."""
        end = self._place.front_end
        return {
            "state": str(self.state),
            "timers": {str(name): left for name, left in self._schedule.remaining(self).items()},
            "unsent": [[reply.decode("latin-1"), command] for reply, command in self._unsent],
            "resets": self._resets,
            "deaf": self._deaf,
            "dialect": self.dialect.snapshot(),
            "front-end": None if end is None else end.snapshot(),
            "agent": self.agent.snapshot(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `snapshot` made this of."""
        self.state = PortState(state["state"])
        self._unsent = [(reply.encode("latin-1"), command) for reply, command in state["unsent"]]
        self._resets, self._deaf = state["resets"], state["deaf"]
        self.dialect.restore(state["dialect"])
        self.agent.restore(state["agent"])
        end = self._place.front_end
        if end is not None and state["front-end"] is not None:
            end.restore(state["front-end"])
            end.arrived = self._arrived
        self._schedule.clear(self)
        for name, left in state["timers"].items():
            self._schedule.set(self, name, left)
