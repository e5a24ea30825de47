"""A migration as the machine sees it that goes: its way to the other side, and how it ends.

What is done in which order is in `qmpd.migration.outgoing`.  (QEMU's migration/migration.c.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from qmpd.common.refusals import Refusal
from qmpd.machine.run_state import LIVE, RunState
from qmpd.migration import bitmaps, further, stream
from qmpd.migration.channel import cannot_write
from qmpd.migration.states import ENDS, GOING_ON, POSTCOPY, TRANSITIONS, VERBS, MigrationStatus
from qmpd.migration.stream import BadStream
from qmpd.schedule.activity import Activity, Carried
from qmpd.schedule.schedule import Time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.migration.bitmaps import LeavingBitmaps
    from qmpd.migration.channel import Channel, Way
    from qmpd.migration.side import Side

    Steps = Iterator[int | None]

NAME = "migration"
"""What it is called among a machine's activities."""
_S = MigrationStatus
_CLOSED = "Channel error: Input/output error"
_UNPLUG_POLL, _UNPLUG_POLLS = 250_000_000, 120
"""How often it is seen whether a guest has let go of a card, in nanoseconds; and how often once it was given up."""
PAUSED = "Postcopy migration is paused by the user"


class Going(Activity[MigrationStatus]):
    """One migration of a machine to somewhere else.

    To be read: `error`, why it failed; `began`, and the times in nanoseconds at which it was set up, the machine
    stopped, the other side had it, and all ended, None before.
    """

    KIND = "migration"
    CALLED = "migration state"
    TRANSITIONS: ClassVar = TRANSITIONS
    VERBS: ClassVar = VERBS
    ENDS = ENDS
    carried = Carried.HERE

    def __init__(self, side: Side) -> None:
        super().__init__(_S.NONE)
        self._side = side
        self._machine = side.machine
        self._steps = self._course()
        self._channel: Channel | None = None
        self._way: Way | None = None
        self._further: further.Further | None = None
        self._drop: Callable[[], None] | None = None
        self._came = stream.Arriving()
        # What the other side has said, and what is asked of this one.
        self._accepted = self._loaded = False
        self._continued = self._missed = False
        self._postcopy = False
        self._finished = False
        self._bitmaps: LeavingBitmaps | None = None
        # Whether it is given up, and the guest is still to let go of its network card.
        self._ends_late = False
        # What the machine was before it was stopped for this; None while it was not.
        self._before: RunState | None = None
        self._gone = False
        # Whether the machine does not go on where it fails now.
        self._stays_stopped = False
        self.error: str | None = None
        # Whether it waits for the other side, or for a way there.
        self.waits = True
        # How often the other side has asked for memory.
        self.requests = 0
        self.began = self.now
        self.set_up_at: int | None = None
        self.stopped_at: int | None = None
        self.arrived_at: int | None = None
        self.ended_at: int | None = None

    @property
    def now(self) -> int:
        """The clock's time, in nanoseconds."""
        return self._machine.schedule.now(Time.REAL)

    @property
    def is_under_way(self) -> bool:
        """Whether it is neither over nor only about to begin."""
        return self.state in GOING_ON

    def entered(self, old: MigrationStatus) -> None:
        """Tell of the new state."""
        self.tell()
        if self.state in ENDS:
            self.ended_at = self.now
            if self._bitmaps is not None:
                self._bitmaps.release()

    def tell(self) -> None:
        """Tell of the present state, where that is wanted."""
        if self._side.has("events"):
            self._machine.emit("MIGRATION", {"status": str(self.state)})

    def _course(self) -> Steps:
        """What is done in which order: the nanoseconds to each next step, None where something has to come first."""
        raise NotImplementedError

    # Its beginning

    def set_out(self, way: Way) -> None:
        """Begin: make the way.

        :raise Refusal: it shows at once that there is none; then it has failed.
        """
        self._way = way
        self.enter(_S.SETUP)
        try:
            self._drop = self._side.reach(way, self._reached)
        except Refusal as refusal:
            self.refused(self._side.words(refusal))
            raise

    def refused(self, why: str | None) -> None:
        """It shows at once that there is no way; nobody is told why where that is None."""
        self.error = why
        if self._side.course.failing:
            self.enter(_S.FAILING)
        self.enter(_S.FAILED)

    def _reached(self, found: Channel | str) -> None:
        self._drop = None
        if not isinstance(found, str):
            if not self.is_under_way or self.state is _S.CANCELLING:
                found.close()
                return
            self._channel = found
            self._came = stream.Arriving()
            if self.state is _S.SETUP:
                self._side.primaries.unplug()
            found.start(self)
        elif self.state is _S.SETUP:
            self.come_to_nothing(found)
        else:
            self._wait_again(found)
        self._side.wake(NAME)

    def step(self) -> int | None:
        """Go on."""
        if self.state is _S.FAILING or self.is_over or (self.state is _S.CANCELLING and not self._ends_late):
            return None
        delay = next(self._steps, None)
        self.waits = delay is None and self.state not in (_S.PRE_SWITCHOVER, _S.POSTCOPY_PAUSED)
        return delay

    # A way that is lost while neither side has all

    def pause(self) -> None:
        """Give up the way on purpose."""
        if not self.allows("pause"):
            return
        if not self._gone:
            self._broken(PAUSED)
            return
        if self._channel is not None:
            self._channel.close()
        self._lose_way(PAUSED)

    def _lose_way(self, why: str) -> None:
        self._channel = None
        self.error = why
        if self.state is not _S.POSTCOPY_PAUSED:
            self.enter(_S.POSTCOPY_PAUSED)
            self._machine.report("Detected IO failure for postcopy. Migration paused.")
        self._side.wake(NAME)

    def resume(self, way: Way) -> None:
        """Go on over another way.

        :raise Refusal: it shows at once that there is none.
        """
        if self._side.course.recover_setup:
            self.enter(_S.POSTCOPY_RECOVER_SETUP)
        try:
            self._drop = self._side.reach(way, self._reached)
        except Refusal as refusal:
            self._wait_again(self._side.words(refusal))
            raise

    def _wait_again(self, why: str) -> None:
        """There is no other way, after all."""
        self.error = why
        if self.state is _S.POSTCOPY_RECOVER_SETUP:
            self.enter(_S.POSTCOPY_PAUSED)
        elif not self._side.course.reason_kept:
            self._machine.report(why)

    # Its further channels

    def _open_channels(self, number: int, *, carry_memory: bool = True) -> Steps:
        """Make so many further channels, and wait until it shows what becomes of each."""
        if not number or self._channel is None or not self._channel.answers or self._way is None:
            return
        if self._further is None:
            self._further = further.Further(self._side, self._channels_changed)
        made = self._further
        made.make(self._way, number, carry_memory=carry_memory)
        while not made.are_settled:
            yield None
        course = self._side.course
        if not course.channels_lost_late and (made.is_one_taken or not course.channels_late):
            self._check_channels()

    def _open_late(self, number: int) -> Steps:
        """Make the further channels once the other side has the first one."""
        while self._channel is not None and self._channel.answers and not self._accepted:
            yield None
        yield from self._open_channels(number)

    def _channels_changed(self) -> None:
        """There is news of the further channels."""
        if self.state is not _S.SETUP and self._further is not None and self._further.are_settled:
            self._check_channels()
        self._side.wake(NAME)

    def _check_channels(self) -> None:
        """Come to nothing where one of the further channels is lost."""
        lost = self._further
        if lost is None or lost.error is None or self._gone or not self.is_under_way:
            return
        in_setup, late = self.state is _S.SETUP, self._side.course.channels_lost_late
        told = not in_setup or self.set_up_at is not None
        if not told and lost.is_one_taken:
            self._tell_first_pass()
        self.come_to_nothing(lost.error, twice=late)
        if not told and not lost.is_one_taken:
            self._tell_first_pass()

    def _tell_first_pass(self) -> None:
        """The first pass begins, whatever comes of it."""
        if self._side.course.first_pass and self._side.has("events"):
            self._machine.emit("MIGRATION_PASS", {"pass": 1})

    # What the channel tells

    def _send(self, data: bytes) -> None:
        if self._channel is not None:
            self._channel.send(data)

    def received(self, data: bytes) -> None:
        """Hear what the other side says."""
        try:
            for name, value in self._came.take(data):
                self._hear(name, value)
        except BadStream as error:
            self._broken(error.message)
        self._side.wake(NAME)

    def _hear(self, name: str, value: Any) -> None:
        if name == "accepted":
            self._accepted = True
        elif name == "loaded":
            self._loaded = True
        elif name == "asked" and isinstance(value, int):
            self.requests += value
        elif name == "refused":
            self._broken(str(value))

    def sent(self) -> None:
        """All has gone out."""
        self._side.wake(NAME)

    def lost(self, error: OSError | None) -> None:
        """The way is lost."""
        if self._channel is None or self.is_over or self.state is _S.CANCELLING:
            return
        if self.state in (_S.WAIT_UNPLUG, _S.PRE_SWITCHOVER):
            # Nobody looks until there is something to send, but those who wait for answers.
            self._missed = True
            if self.state is _S.PRE_SWITCHOVER and self._side.course.reason_kept and self._is_answered:
                self.error = _CLOSED
            return
        if self._side.course.reason_kept and not self._is_answered:
            if self._wants_answers:
                self._broken(_CLOSED)
                return
            if not (self._accepted or self._channel.was_read):
                self._broken("ram_save_setup failed: Input/output error")
                return
        called = self._channel.called
        self._broken(cannot_write(called) if error is None else cannot_write(called, error.strerror or str(error)))

    def _broken(self, why: str) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._gone and self.state in POSTCOPY:
            self._lose_way(_CLOSED)
        elif self._gone:
            self._channel = None  # the other side has all, and had nothing more to say
        else:
            self.come_to_nothing(why)

    # Its end

    def come_to_nothing(self, why: str | None, *, twice: bool = False) -> None:
        """Fail, for this reason; the machine goes on here.  `twice`: that it fails is told so often."""
        if self.is_over or self.state is _S.CANCELLING:
            return
        self.error = why
        failing = self._side.course.failing
        self.enter(_S.FAILING if failing else _S.FAILED)
        if failing and twice:
            self.tell()
        self._let_go()
        if why is not None and (not self._side.course.reason_kept or self.set_up_at is not None):
            self._machine.report(why)
        if not failing:
            self._put_back()
            return

        def failed() -> None:
            self._put_back()
            self.enter(_S.FAILED)

        self._machine.later(failed)

    def _begin_bitmaps(self) -> None:
        """Say which dirty bitmaps will come, or come to nothing where one cannot.

        Earlier releases tell why on standard error alone.
        """
        try:
            self._bitmaps = self._side.leaving_bitmaps()
            if self._bitmaps is not None:
                self._send(stream.section(bitmaps.HEADS, self._bitmaps.heads()))
        except Refusal as refusal:
            why = self._side.words(refusal)
            if self._side.course.reason_kept:
                self.come_to_nothing(why)
            else:
                self._machine.report(why)
                self.come_to_nothing(None)

    def _let_go(self) -> None:
        """Have no way any more."""
        if self._drop is not None:
            self._drop()
            self._drop = None
        if self._further is not None:
            self._further.close()
            self._further = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _put_back(self) -> None:
        """Let the machine be as it was before it was stopped for this."""
        machine, before = self._machine, self._before
        if self._gone:
            return
        self._side.primaries.plug_back()
        if before is None:
            return
        self._before = None
        why = self._side.take_disks()
        if why is not None:
            machine.report(why)
        if machine.state is not RunState.FINISH_MIGRATE:
            return
        if self._stays_stopped:
            machine.set_state(RunState.POSTMIGRATE)
        elif before in LIVE:
            machine.vm_start()
        elif self._side.course.old_state_kept and machine.may_enter(before):
            machine.set_state(before)
        else:
            machine.set_state(RunState.POSTMIGRATE)

    def cancel(self) -> None:
        """Give it up; nothing where it is over.

        :raise Refusal: the guest is at the other side already, and that counts in this release.
        """
        if self.state not in GOING_ON:
            return
        if self.state in POSTCOPY and not self._side.course.postcopy_cancel:
            raise Refusal("migration-postcopy-cancel")
        if self.state is _S.CANCELLING:
            self.tell()
            return
        was = self.state
        if was is _S.PRE_SWITCHOVER and self._side.course.reason_kept:
            self.error = self._side.words(Refusal("switchover-interrupted"))
            self._machine.report(self.error)
        elif was is _S.ACTIVE and self._side.course.reason_kept and self._is_answered:
            # Who waits for answers finds the way closed.
            self.error = _CLOSED
        self.enter(_S.CANCELLING)
        self._let_go()
        if was is _S.WAIT_UNPLUG and self._side.course.unplug_awaited:
            self._ends_late, self._steps = True, self._end_late()
            self._side.wake(NAME)
        elif was is not _S.POSTCOPY_PAUSED:
            self._machine.later(self._cancelled)

    def _await_unplug(self) -> Steps:
        """Wait until the guest has let go of the network cards that cannot come along."""
        if not self._side.primaries.are_awaited:
            return
        self.enter(_S.WAIT_UNPLUG)
        while self._side.primaries.are_awaited:
            yield _UNPLUG_POLL

    def _end_late(self) -> Steps:
        """What was asked of the guest cannot be taken back, so see what comes of it before the cards are its again."""
        for _ in range(_UNPLUG_POLLS):
            if not self._side.primaries.are_awaited:
                break
            yield _UNPLUG_POLL
        else:
            self._machine.report("warning: migration: partially unplugged device on failure")
        self._cancelled()

    def _cancelled(self) -> None:
        if self.state is not _S.CANCELLING:
            return
        if self._gone:
            self._machine.set_state(RunState.POSTMIGRATE)
        self._put_back()
        self.enter(_S.CANCELLED)

    @property
    def _is_answered(self) -> bool:
        """Whether the other side answers over its channel, as QEMU has it."""
        return self._channel is not None and self._channel.answers and self._wants_answers

    @property
    def _wants_answers(self) -> bool:
        """Whether answers are waited for, be there a way for them or not."""
        return self._side.has("return-path") or self._side.has("postcopy-ram")

    def shut_down(self) -> None:
        """The process ends."""
        if self.state in GOING_ON:
            if self.state is _S.CANCELLING:
                self.tell()
            else:
                self.enter(_S.CANCELLING)
            self._let_go()

    def go_on(self) -> None:
        """Wait no longer in `pre-switchover`."""
        self._continued = True
        self._side.wake(NAME)

    @property
    def _reason_missed(self) -> str | None:
        """What is told of a way that was lost while nobody looked; earlier releases tell nobody."""
        if not self._side.course.reason_kept or self._channel is None:
            return None
        return _CLOSED if self._is_answered else cannot_write(self._channel.called)

    def _notice(self) -> None:
        """Find that the way was lost while nobody looked, where it was."""
        if self._missed and self._channel is not None:
            self._broken(cannot_write(self._channel.called))

    def yank(self) -> None:
        """Cut the way, where it is one that answers."""
        if self._channel is not None and self._channel.answers:
            self._machine.later(lambda: self.lost(None))

    def fail(self, reason: str) -> None:
        """Fail as if the way were lost, for this reason.

        :raise VerbRefused: it is over, or lost already.
        """
        self.require("fail")
        self._broken(reason)

    def hindrance(self) -> str | None:
        """Another process does not have its channels."""
        return "a migration is under way"
