"""A migration as the machine sees it that goes: how its memory is copied, pass after pass.  (QEMU's migration/ram.c.)

What is done in which order is in `qmpd.migration.outgoing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.machine.run_state import RunState
from qmpd.migration import stream
from qmpd.migration.channel import cannot_write
from qmpd.migration.going import NAME, Going
from qmpd.migration.memory import PAGE, SECOND, WINDOW, Memory
from qmpd.migration.states import POSTCOPY, MigrationStatus

if TYPE_CHECKING:
    from qmpd.migration.going import Steps
    from qmpd.migration.side import Side

_S = MigrationStatus
_MILLISECOND = 1_000_000
_TWICE = 2
"""How often a guest has to be too fast before it is slowed down."""
_FIRST_FILLING, FILLING = 512 << 10, 1 << 10
"""The most bytes that stand for a pass's pages in the stream."""
_FAR_AHEAD = 64 << 20


class Copying(Going):
    """One migration, and the memory that it copies.

    To be read, beside what all of them have: `memory`, once it is active; what was sent before the machine was stopped
    (`sent_before`), while it stood still (`sent_stopped`) and once it was at the other side (`sent_later`), in bytes.
    """

    def __init__(self, side: Side) -> None:
        super().__init__(side)
        self.memory: Memory | None = None
        # What was sent and dirtied since it was last looked whether the guest is too fast, and how often it was.
        self._weighed = self.now
        self._sent = self._dirtied = self._too_fast = 0
        # How much of what was sent is counted as one of these.
        self._counted = 0
        # What goes out together with the machine itself.
        self._held = b""
        self.sent_before = self.sent_stopped = self.sent_later = 0

    def _has_way(self) -> bool:
        """Whether it may go on."""
        return self._channel is not None

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
            if self._postcopy and self._side.has("postcopy-ram"):
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
                left = memory.left + memory.dirtied(self._machine.schedule.now())
                if left <= threshold:
                    if self._postcopy or left + self._bitmap_pages <= threshold:
                        return
                    # Some releases look for changes thousands of times a second meanwhile, and tell each time.
                    yield self._until_cut(WINDOW)
                    continue
                self._next_pass()
                continue
            if each_window and self.now >= due:
                self._next_pass()
                due = self.now + memory.window_left(self.now)
            whole, early = memory.time_left(self.now), memory.time_left(self.now, threshold)
            delay = min(whole, max(early, self.began + WINDOW - self.now, _MILLISECOND))
            yield self._until_cut(min(delay, max(due - self.now, 1)) if each_window else delay)

    @property
    def _bitmap_pages(self) -> int:
        """How much dirty bitmaps are in pages; they do not go before the machine is stopped."""
        return 0 if self._bitmaps is None else -(-self._bitmaps.size // PAGE)

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
        self._send_pages(FILLING)

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
