"""A migration as the machine sees it that goes: what is done in which order.  (QEMU's migration/migration.c.)

The course is written down in one piece (`_course`): a generator that yields how long the next step may wait, in
nanoseconds, or None where something has to come first.  Between two steps it may be cancelled, or fail.

Whoever can answer has the last word but one: the other side loads the whole state and says so; then this side gives the
machine away, which cannot be taken back, and says that.  So the machine runs at no more than one side at any moment,
whatever becomes of the way between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Refusal
from qmpd.machine.run_state import LIVE, RunState
from qmpd.migration import bitmaps, further, stream
from qmpd.migration.bitmaps import SPEED
from qmpd.migration.copying import FILLING, Copying
from qmpd.migration.going import NAME
from qmpd.migration.memory import SECOND
from qmpd.migration.states import MigrationStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.migration.channel import Channel
    from qmpd.migration.disks import Leaving
    from qmpd.migration.going import Steps
    from qmpd.migration.memory import Memory
    from qmpd.migration.side import Side

_S = MigrationStatus


class Outgoing(Copying):
    """One migration of a machine to somewhere else."""

    def __init__(self, side: Side, disks: Leaving | None = None) -> None:
        """`disks` are those that are copied along."""
        super().__init__(side)
        self.disks = disks

    def _course(self) -> Steps:
        while self._channel is None:
            yield None
        late, number = self._side.course.channels_late, further.multifd(self._side)
        if not late:
            yield from self._open_channels(number)
        if not self._has_way():
            return
        self._send(stream.head() + stream.section("start", self._start()))
        self._begin_memory()
        if late and number:
            yield from self._open_late(number)
        if not self._has_way():
            return
        yield from self._await_unplug()
        assert self.memory is not None
        if self.state is _S.WAIT_UNPLUG:
            self.set_up_at = self.now
            self.memory.start_again(self.now)
        self.enter(_S.ACTIVE)
        self._begin_bitmaps()
        self._notice()
        self._check_channels()
        if not self._has_way():
            return
        if self._side.has("background-snapshot"):
            yield from self._copy_while_it_runs()
            return
        yield from self._copy()
        if not self._has_way():
            return
        while self._channel.answers and not self._accepted:
            yield None
        if self._postcopy:
            yield from self._copy_later()
        else:
            yield from self._switch_over()

    def _start(self) -> dict[str, Any]:
        assert self._channel is not None
        told = self._wants_answers and self._side.course.reason_kept
        kind, postcopy = dict(self._side.kind()), self._side.has("postcopy-ram")
        return {
            "machine": kind, "answers": self._channel.answers, "postcopy": postcopy, "told": told,
            "channels": further.multifd(self._side), "disks": [] if self.disks is None else self.disks.names,
            "bitmaps": self._side.has("dirty-bitmaps"),
        }  # fmt: skip

    def _copy_while_it_runs(self) -> Steps:
        """Take the machine's state at one moment, and copy it while the machine goes on: it goes nowhere."""
        machine, memory = self._machine, self.memory
        assert memory is not None
        self.stopped_at = self.now
        before = machine.state
        if before in LIVE:
            machine.vm_stop(RunState.PAUSED)
        state = {**self._side.take_state()}
        if before in LIVE:
            machine.vm_start()
        self.arrived_at = self.now
        yield from self._copy_what_is_left(memory)
        if not self._has_way():
            return
        self._before = before
        yield from self._hand_over(state)
        self._before = None
        self.enter(_S.COMPLETED)
        if self._channel is not None:
            self._channel.finish(lambda: None)

    # Switching over

    def _stop(self) -> None:
        """Stop the machine for the last part."""
        machine = self._machine
        self._look()
        self.stopped_at = self.now
        self._before = machine.state
        if machine.state in LIVE:
            machine.vm_stop(RunState.FINISH_MIGRATE)
        if machine.state is not RunState.FINISH_MIGRATE:
            if machine.parts is not None:
                machine.parts.drain()
            if not machine.may_enter(RunState.FINISH_MIGRATE):
                self._before = None
                self.come_to_nothing(f"A machine in '{machine.state}' cannot be stopped for a migration")
                return
            machine.set_state(RunState.FINISH_MIGRATE)

    def _last_pass(self) -> None:
        assert self.memory is not None
        self._look()
        self.memory.find_dirt(self.now, self._machine.schedule.now())
        self._tell_pass()
        self._send_pages(FILLING, is_last=True)

    def _switch_over(self) -> Steps:
        course = self._side.course
        if not course.first_pass:
            self._last_pass()
        # What is found out about a machine but once is found out while the guest still runs.
        self._side.take_state()
        self._stop()
        if self.is_over:
            return
        if self._side.has("pause-before-switchover"):
            yield from self._wait_to_go_on(_S.DEVICE)
            if not self._has_way():
                return
        elif course.device:
            self.enter(_S.DEVICE)
        while self._side.faults.hold_switchover:
            yield None
        if course.first_pass:
            self._last_pass()
        if self.disks is not None:
            yield from self._copy_disks(self.disks)
        if not self._has_way() or not self._give_disks():
            return
        yield from self._copy_rest()
        if not self._has_way():
            return
        yield from self._hand_over(self._side.take_state())
        self._complete()

    def _wait_to_go_on(self, then: MigrationStatus) -> Steps:
        """Wait until a client says so; `then` is the state after that."""
        self.enter(_S.PRE_SWITCHOVER)
        while not self._continued:
            yield None
        self.enter(then)
        if self._missed:
            self.come_to_nothing(self._reason_missed)

    def _copy_disks(self, disks: Leaving) -> Steps:
        """Copy the disks while the machine stands still."""
        assert self._channel is not None
        yield from disks.copy(self._channel)
        if disks.error is not None:
            self.come_to_nothing(disks.error)

    def come_to_nothing(self, why: str | None, *, twice: bool = False) -> None:
        """See `Going`; that the other side has not taken a disk is told to nobody."""
        disks = self.disks
        in_disks = disks is not None and disks.has_begun and disks.error is None and not self._loaded
        super().come_to_nothing(None if in_disks else why, twice=twice)

    def _give_disks(self, code: str = "disks-written", why: str = "disks-written-reason") -> bool:
        """Let the other side have the disks; false where that cannot be, and the migration has failed.

        :param code: what is said of it then.
        :param why: the reason that queries tell, of which a release may know nothing.
        """
        course = self._side.course
        if course.drains != "afterwards":
            self._side.drain_disks(each=course.drains == "each")
        if self._bitmaps is not None:
            self._bitmaps.are_stored(False)
        if self._side.give_disks(code=code):
            return True
        if self._bitmaps is not None:
            self._bitmaps.are_stored(True)
        if course.way_left_open and self._is_answered:
            self._channel = None
        self.come_to_nothing(self._side.words(Refusal(why)) or None)
        return False

    def _copy_rest(self) -> Steps:
        """Copy what is left of the memory, while the machine stands still."""
        memory = self.memory
        assert memory is not None
        memory.start_again(self.now)
        self._limit()
        yield from self._copy_what_is_left(memory)

    def _copy_what_is_left(self, memory: Memory) -> Steps:
        while not self._is_cut() and memory.left:
            yield self._until_cut(memory.time_left(self.now))
            self._look()

    def _with_held(self, state: Mapping[str, Any]) -> bytes:
        held, self._held = self._held, b""
        if self._bitmaps is not None and not self._bitmaps_come_later:
            held += b"".join(stream.section(bitmaps.CONTENT, each.value) for each in self._bitmaps.contents())
        return held + stream.whole(state, str(self._before))

    @property
    def _bitmaps_come_later(self) -> bool:
        """Whether the guest goes on at the other side before its dirty bitmaps are there."""
        return self._postcopy and not self._side.has("postcopy-ram")

    def _hand_over(self, state: Mapping[str, Any]) -> Steps:
        """Give the machine to the other side, in this state."""
        channel = self._channel
        assert channel is not None
        sections = self._with_held(state)
        if channel.answers:
            self._send(sections)
            while not self._loaded:
                yield None
            # From here on the machine is the other side's.
            self._gone = True
            self._send(stream.END)
            while self._channel is not None and self._channel.unsent:
                yield None
        else:
            self._send(sections)
            yield from self._end_alone(channel)
            self._gone = True

    def _end_alone(self, channel: Channel) -> Steps:
        """Send the end to somebody who does not answer."""
        self._send(stream.END)
        channel.finish(self._has_finished)
        while not self._finished:
            yield None

    def _has_finished(self) -> None:
        self._finished = True
        self._side.wake(NAME)

    def _complete(self) -> None:
        self.arrived_at = self.arrived_at or self.now
        self.enter(_S.COMPLETED)
        if self._side.course.drains == "afterwards":
            self._side.drain_disks()
        self._machine.set_state(RunState.POSTMIGRATE)
        if self._further is not None:
            self._further.finish()
        if self._channel is not None:
            self._channel.finish(lambda: None)

    # Copying later

    def start_postcopy(self) -> None:
        """Let the guest go on at the other side, and copy the rest of its memory later."""
        self._postcopy = True
        self._side.wake(NAME)

    def _copy_later(self) -> Steps:
        yield 0  # the reply is first
        course, device = self._side.course, self._side.course.device
        if self._side.has("postcopy-preempt"):
            yield from self._open_channels(1, carry_memory=False)
            if self.state is not _S.ACTIVE:
                return
        waits = self._side.has("pause-before-switchover")
        if not device and not waits:
            self.enter(_S.POSTCOPY_ACTIVE)
        elif device and not course.first_pass:
            self._last_pass()
        self._stop()
        if self.is_over:
            return
        self._stays_stopped = not device
        if waits:
            yield from self._wait_to_go_on(_S.DEVICE if device else _S.POSTCOPY_ACTIVE)
        elif device:
            self.enter(_S.DEVICE)
        while self._side.faults.hold_switchover:
            yield None
        if not self._has_way():
            return
        if course.first_pass:
            self._last_pass()
        if not self._give_disks("disks-written-postcopy", "disks-written-postcopy-reason"):
            return
        later, channel = self._bitmaps_come_later, self._channel
        if later:
            yield from self._copy_rest()
        if channel is None or not self._has_way():
            return
        self._send(self._with_held(self._side.take_state()))
        while channel.answers and not self._loaded:
            yield None
        self._gone, self._stays_stopped = True, False
        self._send(stream.section("run", {}))
        self.arrived_at = self.now
        if course.postcopy_device and not later:
            self.enter(_S.POSTCOPY_DEVICE)
        if device:
            self.enter(_S.POSTCOPY_ACTIVE)
        if later:
            yield from self._send_bitmaps()
        yield from self._send_what_is_asked_for()
        self._complete()

    def _send_bitmaps(self) -> Steps:
        """Send the dirty bitmaps while the guest runs at the other side already."""
        assert self._bitmaps is not None
        for each in list(self._bitmaps.contents()):
            left = 1.0
            while left > 0:
                limit, began = int(self._side.parameter("max-postcopy-bandwidth") or 0), self.now
                time = max(each.size / SPEED, each.sent / limit if limit else 0.0) * SECOND
                yield int(left * time) + 1
                if self.state is not _S.POSTCOPY_ACTIVE:
                    yield from self._recover()
                    continue
                left -= (self.now - began) / time if time else left
            self._send(stream.section(bitmaps.CONTENT, each.value))

    def _send_what_is_asked_for(self) -> Steps:
        """Copy the rest, over one channel or several, one after another."""
        memory = self.memory
        assert memory is not None
        memory.start_again(self.now)
        self._limit()
        while True:
            if self.state is not _S.POSTCOPY_ACTIVE or self._channel is None:
                yield from self._recover()
                continue
            self._look()
            if self._is_cut():
                continue
            if memory.left:
                yield self._until_cut(memory.time_left(self.now))
                continue
            if not self._channel.answers:
                yield from self._end_alone(self._channel)
                return
            self._loaded = False
            self._send(stream.section("last", {}))
            while not self._loaded and self.state is _S.POSTCOPY_ACTIVE:
                yield None
            if self._loaded:
                self._send(stream.END)
                return

    def _recover(self) -> Steps:
        while self._channel is None:
            yield None
        self.enter(_S.POSTCOPY_RECOVER)
        self._loaded = False
        self._send(stream.head() + stream.section("recover", {}))
        while self.state is _S.POSTCOPY_RECOVER:
            if self._loaded:
                assert self.memory is not None
                self.memory.start_again(self.now)
                self.enter(_S.POSTCOPY_ACTIVE)
                return
            yield None
