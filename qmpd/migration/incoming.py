"""A migration as the machine sees it that comes.  (QEMU's migration/migration.c and savevm.c.)

It says nothing by itself: what comes over the channel (`qmpd.migration.stream`) is taken piece by piece, each in a step
of its own.  The sections are those of the machine's state, and these:

| section | what |
|---|---|
| `start` | the first: what kind of machine comes, and what it will do; answered by `accepted` |
| `pages` | stands for pages of memory |
| `disk` | a piece of a disk that is copied along (`qmpd.migration.disks`) |
| `disks-sent` | how much of all disks has come by then, in percent |
| `bitmap-heads` | the dirty bitmaps that will come (`qmpd.system.moved_bitmaps`) |
| `bitmap` | what is in one of them |
| `switch` | the state is whole: it is loaded, and that is answered (`loaded`); what the machine was doing |
| `run` | the machine is this side's, and some of its memory, or its dirty bitmaps, come later |
| `last` | all memory has come; answered by `loaded` |
| `recover` | what follows is the rest of a migration that was paused; answered by `loaded` |

The end of the stream gives the machine to this side.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from qmpd.common.refusals import Refusal
from qmpd.machine.run_state import LIVE, RunState
from qmpd.migration import bitmaps, disks, further, stream
from qmpd.migration.states import ENDS, POSTCOPY, TRANSITIONS, VERBS, MigrationStatus
from qmpd.migration.stream import BadStream
from qmpd.schedule.activity import Activity, Carried

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.migration.channel import Channel, Waiting
    from qmpd.migration.side import Side

NAME = "incoming migration"
"""What it is called among a machine's activities."""
_S = MigrationStatus
_PAGES, _START, _SWITCH, _RUN, _LAST, _RECOVER = "pages", "start", "switch", "run", "last", "recover"
_MEMBERS: Mapping[str, Mapping[str, type]] = {
    _START: {"machine": dict, "answers": bool, "channels": int, "disks": list},
    _SWITCH: {"state": str},
    disks.SECTION: {"name": str, "at": int, "length": int, "data": bytes},
    disks.PROGRESS: {"percent": int},
}
"""What sections have to have that are read here."""
_NOT_SAID = {"channels": 0, "disks": list[str]()}
"""What the first section may leave out."""


class Incoming(Activity[MigrationStatus]):
    """A machine that is to come, from when somebody waits for it.

    To be read: `waiting`, where it is waited for, or was, and the `addresses` of that; `error`, why it has failed;
    `exits`, whether the process ends then.
    """

    KIND = "incoming"
    CALLED = "migration state"
    TRANSITIONS: ClassVar = TRANSITIONS
    VERBS: ClassVar = VERBS
    ENDS = ENDS
    carried = Carried.HERE

    def __init__(self, side: Side, *, exits: bool = True) -> None:
        """`exits`: where it fails the process ends."""
        super().__init__(_S.NONE)
        self._side = side
        self._machine = side.machine
        self.exits = exits
        self._channel: Channel | None = None
        self._came: list[bytes] = []
        # What has come whole, and waits for disks to be written.
        self._due: deque[tuple[str, Any]] = deque()
        self._disks = side.arriving_disks
        self._bitmaps = side.arriving_bitmaps
        self._lost = False
        self._arriving = stream.Arriving()
        self._sections: dict[str, Any] = {}
        self._start: Mapping[str, Any] = {}
        self._was = ""
        self._loaded = False
        # Whether the channel is listened to: further ones may have to come before.
        self._is_heard = False
        # Whether anything was answered over the present channel.
        self._answered = False
        # The channels beside that.
        self._further = further.Waiting(side)
        self.waiting: Waiting | None = None
        self.addresses: list[Mapping[str, Any]] = []
        self.error: str | None = None
        # Whether one was asked for, be it right or wrong.
        self.is_told_to_recover = False
        # Whether the address of another way was given, after the first one was lost.
        self.is_recovering = False

    def entered(self, old: MigrationStatus) -> None:
        """Tell of the new state."""
        self.tell(self.state)

    def tell(self, state: MigrationStatus) -> None:
        """Tell of a state, where that is wanted."""
        if self._side.has("events"):
            self._machine.emit("MIGRATION", {"status": str(state)})

    # What the channel tells

    def accept(self, channel: Channel) -> None:
        """Somebody is connected."""
        if self._channel is not None and channel.answers and self._take_further(channel):
            return
        if self._channel is not None or self.is_over or (self.state in POSTCOPY and not self.is_recovering):
            self._further.refuse()
            self._machine.report("socket_accept_incoming_migration: Extra incoming migration connection; ignoring")
            channel.close()
            return
        self._channel = channel
        self._came, self._lost = [], False
        self._due.clear()
        self._arriving = stream.Arriving()
        self._is_heard = False
        late, alone = self._side.course.channels_late, not further.multifd(self._side) or not channel.answers
        if self.state in POSTCOPY or not channel.answers or (late and alone):
            self.stop_waiting()
        if self.state in POSTCOPY or alone:
            self._hear()
        elif late:
            channel.start(self)
            self._answer("accepted")

    def _take_further(self, channel: Channel) -> bool:
        if self._is_heard and self._arriving.has_begun:
            return self._further.take_preempting(channel)
        if not self._further.take(channel):
            return False
        if self._further.are_all_there and not self._is_heard:
            self._hear()
        return True

    def _hear(self) -> None:
        """All channels are there: hear what the first one says."""
        assert self._channel is not None
        self._is_heard = True
        course, alone = self._side.course, not further.multifd(self._side)
        on_data = course.too_many_wait and (course.channels_refused >= 0 or not alone) and self._channel.answers
        if self.state not in POSTCOPY and not on_data:
            self.enter(_S.ACTIVE)
        if alone or not course.channels_late or not self._channel.answers:
            self._channel.start(self)

    def wait_at(self, waiting: Waiting) -> None:
        """Somebody may come there."""
        self.waiting = waiting
        self.addresses = waiting.addresses

    @property
    def is_read_alone(self) -> bool:
        """Whether it comes from a file or the like: then all of it is there."""
        return self._channel is not None and not self._channel.answers

    def stop_waiting(self) -> None:
        """Nobody else may come."""
        if self.waiting is not None:
            self.waiting.close()

    def received(self, data: bytes) -> None:
        """Take what has come in the next step."""
        if self._is_heard and self.state in (_S.NONE, _S.SETUP):
            self.enter(_S.ACTIVE)
        self._came.append(data)
        self._side.wake(NAME)

    def sent(self) -> None:
        """An answer has gone out."""

    def lost(self, error: OSError | None) -> None:
        """Nothing more comes, behind what has."""
        self._lost = True
        self._side.wake(NAME)

    def step(self) -> int | None:
        """Take what has come."""
        try:
            while self._goes_on():
                if self._due:
                    self._take(*self._due.popleft())
                elif self._came:
                    self._due += self._arriving.take(self._came.pop(0))
                elif self._arriving.is_whole:
                    self._arrive()
                else:
                    break
            if self._lost and self._is_heard and not self.is_over and not (self._due or self._came):
                self._lose_way()
        except BadStream as error:
            self.come_to_nothing(error)
        return None

    def _goes_on(self) -> bool:
        """Whether what has come can be taken now.

        :raise BadStream: a disk cannot be written.
        """
        if self._disks.error is not None:
            raise BadStream(self._disks.error)
        is_last = bool(self._due) and self._due[0][0] == _SWITCH
        return not self.is_over and not self._disks.is_busy and (not is_last or self._disks.are_written)

    def _take(self, name: str, value: Any) -> None:
        if name == _PAGES or self.is_over:
            return
        if name == _START and isinstance(value, dict):
            value = {**_NOT_SAID, **value}
        if name in _MEMBERS:
            stream.check(name, value, _MEMBERS[name])
        if name == _START:
            self._start = value
            self._check_start()
            self._answer("accepted")
        elif name == disks.SECTION:
            self._disks.take(value)
        elif name == disks.PROGRESS:
            self._disks.tell(value["percent"])
        elif name == bitmaps.HEADS:
            self._bitmaps.begin(value)
        elif name == bitmaps.CONTENT:
            self._bitmaps.take(value)
        elif name == _SWITCH:
            self._was = value["state"]
            self._load()
            self._answer("loaded")
        elif name == _RUN:
            self._go_on_early()
        elif name in (_LAST, _RECOVER):
            if name == _RECOVER and self.state is _S.POSTCOPY_PAUSED:
                self.enter(_S.POSTCOPY_RECOVER)
                self._answer("loaded")
                self.enter(_S.POSTCOPY_ACTIVE)
                return
            self._answer("loaded")
        else:
            self._sections[name] = value

    def _answer(self, name: str, value: Any = None) -> None:
        if self._channel is not None and self._channel.answers:
            self._channel.send((b"" if self._answered else stream.head()) + stream.section(name, value))
            self._answered = True

    def _check_start(self) -> None:
        refusal = self._side.faults.takes_refusal()
        if refusal is not None:
            raise BadStream(refusal)
        if self._start.get("postcopy") and not self._side.has("postcopy-ram"):
            raise BadStream("RAM postcopy is disabled but have 16 byte advise")
        if self._start.get("bitmaps") and not self._start.get("postcopy") and self._side.has("postcopy-ram"):
            raise BadStream("RAM postcopy is enabled but have 0 byte advise")
        self._side.check_kind(self._start["machine"])
        self._disks.check(map(str, self._start["disks"]))
        channels, come = further.multifd(self._side), self._start["channels"]
        is_late = self._side.course.channels_late
        if self._start["answers"] and come != channels and not is_late:
            raise BadStream(f"{come} channels of multifd were expected to be {channels}")
        if not is_late and not self._side.has("postcopy-preempt"):
            self.stop_waiting()
        # What is found out about a machine but once is found out before the other one stands still.
        self._side.take_state()

    # Arriving

    def _load(self) -> None:
        if self._was not in list(RunState):
            raise BadStream(f"invalid parameter value: {self._was}")
        self._side.put_state(self._sections)
        self._sections = {}
        self._loaded = True

    def _arrive(self) -> None:
        """All is here: the machine is this side's."""
        if not self._loaded:
            raise BadStream(self._side.words(Refusal("migration-stream-ended")), errno.EIO)
        self._close()
        self.stop_waiting()
        if self.state is _S.ACTIVE:
            self._go_on()
        self._bitmaps.drop()
        self.enter(_S.COMPLETED)

    def _arrive_without_bitmaps(self) -> None:
        """The machine is here and runs, and some of its dirty bitmaps do not come any more."""
        self._machine.report(self._side.words(Refusal("bitmaps-lost")))
        self._close()
        self.stop_waiting()
        self._bitmaps.drop()
        self.enter(_S.COMPLETED)

    def _go_on_early(self) -> None:
        if not self._loaded or self.state is not _S.ACTIVE:
            raise BadStream("CMD_POSTCOPY_RUN in wrong postcopy state")
        if self._side.course.postcopy_device and self._has_memory_later:
            self.enter(_S.POSTCOPY_DEVICE)
        self.enter(_S.POSTCOPY_ACTIVE)
        self._go_on(early=True)
        if self._has_memory_later:
            self._answer("asked", 1)

    @property
    def _has_memory_later(self) -> bool:
        """Whether it is memory that comes later; otherwise dirty bitmaps do."""
        return bool(self._start.get("postcopy"))

    def _go_on(self, *, early: bool = False) -> None:
        """Have the disks, and go on as the machine did before; `early`: whatever it did."""
        machine, side = self._machine, self._side
        ran = self._was in {str(each) for each in LIVE}
        goes_on = machine.autostart and (ran or early)
        self._bitmaps.go_on()
        side.arrived()
        if goes_on or not (side.has("late-block-activate") or side.course.device):
            why = side.take_disks(runs=goes_on)
            if why is not None:
                machine.report(why)
                machine.autostart = False
        if machine.state is not RunState.INMIGRATE:
            return
        if ran or early:
            if machine.autostart:
                machine.vm_start()
            else:
                machine.set_state(RunState.PAUSED)
            return
        state = RunState(self._was)
        machine.set_state(state if machine.may_enter(state) else RunState.PAUSED)

    # Coming to nothing

    def _lose_way(self) -> None:
        if self._further.were_too_many:
            return  # as QEMU, which waits for what they were to bring
        if self.state in POSTCOPY and not self._has_memory_later:
            self._arrive_without_bitmaps()
            return
        if self.state in POSTCOPY:
            self._close()
            self.is_recovering = False
            if self.state is not _S.POSTCOPY_PAUSED:
                self.enter(_S.POSTCOPY_PAUSED)
                self._machine.report("Detected IO failure for postcopy. Migration paused.")
            return
        raise BadStream(self._side.words(Refusal("migration-stream-ended")), errno.EIO)

    def pause(self) -> None:
        """Give up the way on purpose."""
        if self.allows("pause"):
            self._lose_way()

    def come_to_nothing(self, error: BadStream) -> None:
        """Fail: the process ends, unless it was told to stay."""
        if self.state in POSTCOPY and not self._has_memory_later:
            self._arrive_without_bitmaps()
            return
        machine = self._machine
        self._bitmaps.drop()
        if self._start.get("told"):
            self._answer("refused", "Sibling indicated error 1")
        self._close()
        self.stop_waiting()
        self.error = f"load of migration failed: {os.strerror(error.number)}"
        if self._side.course.failing:
            self.error += f": {error.message}{error.detail}"
        else:
            machine.report(error.message)
        self.enter(_S.FAILED)
        if self.exits:
            machine.report(self.error)
            machine.end(1)

    def _close(self) -> None:
        self._lost = False
        self._further.close()
        if self._channel is not None:
            self._channel.finish(lambda: None)
            self._channel = None
        self._answered = False

    def shut_down(self) -> None:
        """The process ends."""
        self.stop_waiting()
        self._further.close()
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def fail(self, reason: str) -> None:
        """Refuse what comes, for this reason.

        :raise VerbRefused: it is over, or nobody has come.
        """
        self.require("fail")
        if self.state in POSTCOPY:
            self._lose_way()
        else:
            self.come_to_nothing(BadStream(reason))

    def hindrance(self) -> str | None:
        """Another process does not have its channels."""
        return "a migration is under way"
