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
from qmpd.migration import further, stream
from qmpd.migration.channel import cannot_write
from qmpd.migration.going import NAME, Going
from qmpd.migration.memory import PAGE, SECOND, WINDOW, Memory
from qmpd.migration.states import POSTCOPY, MigrationStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.migration.disks import Leaving
    from qmpd.migration.going import Steps
    from qmpd.migration.side import Side

_S = MigrationStatus
_MILLISECOND = 1_000_000
_TWICE = 2
"""How often a guest has to be too fast before it is slowed down."""
_FIRST_FILLING, _FILLING = 512 << 10, 1 << 10
"""The most bytes that stand for a pass's pages in the stream."""
_FAR_AHEAD = 64 << 20


class Outgoing(Going):
    """One migration of a machine to somewhere else.

    To be read, beside what all of them have: `memory`, once it is active; what was sent before the machine was stopped
    (`sent_before`), while it stood still (`sent_stopped`) and once it was at the other side (`sent_later`), in bytes.
    """

    def __init__(self, side: Side, disks: Leaving | None = None) -> None:
        """`disks` are those that are copied along."""
        super().__init__(side)
        self.disks = disks
        self.memory: Memory | None = None
        # What was sent and dirtied since it was last looked whether the guest is too fast, and how often it was.
        self._weighed = self.now
        self._sent = self._dirtied = self._too_fast = 0
        # How much of what was sent is counted as one of these.
        self._counted = 0
        # What goes out together with the machine itself.
        self._held = b""
        self.sent_before = self.sent_stopped = self.sent_later = 0

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
        self._check_bitmaps()
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

    def _has_way(self) -> bool:
        """Whether it may go on."""
        return self._channel is not None

    def _start(self) -> dict[str, Any]:
        assert self._channel is not None
        postcopy = self._side.has("postcopy-ram")
        told = (postcopy or self._side.has("return-path")) and self._side.course.reason_kept
        kind = dict(self._side.kind())
        return {
            "machine": kind, "answers": self._channel.answers, "postcopy": postcopy, "told": told,
            "channels": further.multifd(self._side), "disks": [] if self.disks is None else self.disks.names,
        }  # fmt: skip

    def _begin_memory(self) -> None:
        course, now = self._side.course, self.now
        self.set_up_at = now
        self.memory = Memory(self._side.size(), now, self._machine.schedule.now(), course.buffer)
        self._limit()
        self._send_pages(_FIRST_FILLING)
        if course.first_pass and not self._side.has("background-snapshot"):
            self._tell_pass()

    def _tell_pass(self) -> None:
        assert self.memory is not None
        if self._side.has("events"):
            self._machine.emit("MIGRATION_PASS", {"pass": self.memory.passes})

    def _limit(self) -> None:
        """Obey the limit of speed, whatever it is by now."""
        name = "max-postcopy-bandwidth" if self.state in POSTCOPY else "max-bandwidth"
        assert self.memory is not None
        self.memory.set_limit(int(self._side.parameter(name) or 0), self.now)

    def limits_changed(self) -> None:
        """A parameter was set."""
        if self.memory is not None and self.is_under_way:
            self._limit()
            self._side.wake(NAME)

    def _send_pages(self, most: int, *, is_last: bool = False) -> None:
        """Send what stands for the pages of a pass."""
        assert self.memory is not None
        size = self.memory.bytes_left
        assert self._channel is not None
        if self._channel.answers:
            most = 0  # what is on its way is not to fill a socket that the other side reads later
        part = stream.section("pages", {"bytes": size, "filling": bytes(min(size, most))}, packed=False)
        if self._further is not None and self._further.send(part):
            return
        if is_last and self._channel.answers:
            self._held = part  # it goes with the rest
        else:
            self._send(part)

    @property
    def _threshold(self) -> int:
        """The pages that may be left when the machine is stopped."""
        assert self.memory is not None
        speed = self._side.parameter("avail-switchover-bandwidth") or self.memory.speed
        return int(speed) * int(self._side.parameter("downtime-limit")) // 1000 // PAGE

    def _copy(self) -> Steps:
        """Copy the memory, until so little is left that the machine may stop, or the rest is to be copied later."""
        memory = self.memory
        assert memory is not None
        assert self._channel is not None
        each_window = self._side.course.pass_each_window and self._side.has("postcopy-ram")
        due = self.now
        while True:
            if self._postcopy:
                return
            self._look()
            if self._is_cut():
                return
            if self._channel.unsent > self._ahead:
                yield None  # until the other side has read what it was sent
                memory.start_again(self.now)
                continue
            threshold = self._threshold
            if memory.left <= (threshold if memory.may_end_early else 0):
                if self._side.faults.keep_it_from_converging:
                    memory.keep_dirty(2 * threshold + 1)
                    self._next_pass()
                    continue
                if memory.left + memory.dirtied(self._machine.schedule.now()) <= threshold:
                    return
                self._next_pass()
                continue
            if each_window and self.now >= due:
                self._next_pass()
                due = self.now + memory.window_left(self.now)
            whole, early = memory.time_left(self.now), memory.time_left(self.now, threshold)
            delay = min(whole, max(early, self.began + WINDOW - self.now, _MILLISECOND))
            yield self._until_cut(min(delay, max(due - self.now, 1)) if each_window else delay)

    def _is_cut(self) -> bool:
        """Whether a fault has the way be lost, which then is."""
        memory = self.memory
        if memory is None or self._channel is None:
            return False
        if not self._side.faults.takes_cut(memory.copied, memory.total):
            return False
        self._broken(cannot_write(self._channel.called))
        return True

    def _until_cut(self, delay: int) -> int:
        """The nanoseconds to the next step: so many, or as many as there are until a fault is due."""
        memory = self.memory
        assert memory is not None
        left = self._side.faults.next_cut(memory.copied, memory.total)
        return delay if left is None else max(1, min(delay, memory.time_of_pages(self.now, -(-left // PAGE))))

    @property
    def _ahead(self) -> int:
        """How many bytes may wait to go out: where the clock is a test's, that need not wait for the other side."""
        return 0 if self._machine.clock.real_seconds(1) is not None else _FAR_AHEAD

    def _look(self) -> None:
        """Let the memory be copied as far as it could be by now."""
        memory = self.memory
        assert memory is not None
        memory.look(self.now)
        sent, self._counted = memory.sent - self._counted, memory.sent
        if self.state in POSTCOPY:
            self.sent_later += sent
        elif self._machine.state is RunState.RUNNING:
            self.sent_before += sent
        else:
            self.sent_stopped += sent

    def look(self) -> None:
        """Be up to date, for somebody who asks."""
        if self.memory is not None and self.state in (_S.ACTIVE, _S.DEVICE, _S.POSTCOPY_ACTIVE):
            self._look()

    def _next_pass(self) -> None:
        memory = self.memory
        assert memory is not None
        self._look()
        sent = memory.sent_in_pass
        dirtied = memory.find_dirt(self.now, self._machine.schedule.now()) * PAGE
        self._throttle(sent, dirtied)
        self._tell_pass()
        self._send_pages(_FILLING)

    def _throttle(self, sent: int, dirtied: int) -> None:
        """Slow the guest down where it keeps the migration from ever ending (`auto-converge`).

        That is looked at once in a second at most, and has to be so twice.
        """
        side, memory = self._side, self.memory
        assert memory is not None
        self._sent += sent
        self._dirtied += dirtied
        if self.now - self._weighed <= SECOND:
            return
        sent, dirtied = self._sent, self._dirtied
        self._weighed, self._sent, self._dirtied = self.now, 0, 0
        if not side.has("auto-converge") or dirtied * 100 <= sent * int(side.parameter("throttle-trigger-threshold")):
            return
        self._too_fast = (self._too_fast + 1) % _TWICE
        if self._too_fast:
            return
        if not memory.throttle:
            memory.throttle = int(side.parameter("cpu-throttle-initial"))
        else:
            more = memory.throttle + int(side.parameter("cpu-throttle-increment"))
            memory.throttle = min(more, int(side.parameter("max-cpu-throttle")))

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
        self._send_pages(_FILLING, is_last=True)

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
            self.enter(_S.PRE_SWITCHOVER)
            while not self._continued:
                yield None
            self.enter(_S.DEVICE)
            if self._missed:
                self.come_to_nothing(self._reason_missed)
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

    def _give_disks(self) -> bool:
        """Let the other side have the disks; false where that cannot be, and the migration has failed."""
        if self._side.course.drains != "afterwards":
            self._side.drain_disks(each=self._side.course.drains == "each")
        if self._side.give_disks():
            return True
        self.come_to_nothing(self._side.words(Refusal("disks-written-reason")) or None)
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
        return held + stream.whole(state, str(self._before))

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
            self._send(sections + stream.END)
            channel.finish(self._has_finished)
            while not self._finished:
                yield None
            self._gone = True

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
        if not device:
            self.enter(_S.POSTCOPY_ACTIVE)
        elif not course.first_pass:
            self._last_pass()
        self._stop()
        if device:
            self.enter(_S.DEVICE)
        if course.first_pass:
            self._last_pass()
        if not self._give_disks():
            return
        self._send(self._with_held(self._side.take_state()))
        while not self._loaded:
            yield None
        self._gone = True
        self._send(stream.section("run", {}))
        self.arrived_at = self.now
        if course.postcopy_device:
            self.enter(_S.POSTCOPY_DEVICE)
        if device:
            self.enter(_S.POSTCOPY_ACTIVE)
        yield from self._send_what_is_asked_for()
        self._complete()

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
