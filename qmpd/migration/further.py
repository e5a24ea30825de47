"""The further channels of a migration, at both sides: those of `multifd`, and the second one of `postcopy-preempt`.

They are made once there is a first channel, each says which it is, and each is answered (`taken`) by a side that waits
for as many.  Memory goes over those of `multifd`, one part after another; the machine itself over the first channel.
(QEMU's migration/multifd.c.)
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal
from qmpd.migration import stream
from qmpd.migration.channel import cannot_write

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.migration.channel import Channel, Way
    from qmpd.migration.side import Side


def multifd(side: Side) -> int:
    """How many channels a machine has for its memory."""
    return int(side.parameter("multifd-channels")) if side.has("multifd") else 0


class _Member:
    """One channel that is made, as its receiver."""

    def __init__(self, further: Further) -> None:
        self._further = further
        self.channel: Channel | None = None
        self.is_taken = False

    def received(self, data: bytes) -> None:
        """The other side has taken it."""
        self.is_taken = True
        self._further.changed()

    def sent(self) -> None:
        """What was sent has gone out."""

    def lost(self, error: OSError | None) -> None:
        """It is lost."""
        self._further.lose(cannot_write("socket"))


class Further:
    """The further channels of a machine that goes; `changed` is called when there is news of them.

    To be read: `error`, why one of them is lost, None while none is.
    """

    def __init__(self, side: Side, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.error: str | None = None
        self._side = side
        self._members: list[_Member] = []
        # Those of them that memory goes over.
        self._carriers: list[_Member] = []
        self._drops: list[Callable[[], None]] = []
        self._turn = 0
        self._lost = 0

    def make(self, way: Way, number: int, *, carry_memory: bool) -> None:
        """Make so many more."""
        first = len(self._members)
        new = [_Member(self) for _ in range(number)]
        self._members += new
        if carry_memory:
            self._carriers += new
        for place, member in enumerate(new, first):
            try:
                self._drops.append(self._side.reach(way, partial(self._reached, place, member)))
            except Refusal as refusal:
                self.lose(self._side.words(refusal))

    def _reached(self, place: int, member: _Member, found: Channel | str) -> None:
        if isinstance(found, str):
            self.lose(found)
            return
        member.channel = found
        found.start(member)
        found.send(stream.head() + stream.section("channel", {"number": place}))
        self.changed()

    def lose(self, why: str) -> None:
        """One of them is lost, for this reason."""
        self.error = self.error or why
        self._lost += 1
        self.changed()

    @property
    def are_settled(self) -> bool:
        """Whether each of them was taken, or is lost."""
        return sum(each.is_taken for each in self._members) + self._lost >= len(self._members)

    @property
    def is_one_taken(self) -> bool:
        """Whether the other side waits for some."""
        return any(each.is_taken for each in self._members)

    def send(self, data: bytes) -> bool:
        """Send this over the next one that carries memory; false: there is none."""
        if not self._carriers:
            return False
        self._turn = (self._turn + 1) % len(self._carriers)
        channel = self._carriers[self._turn].channel
        if channel is None:
            return False
        channel.send(data)
        return True

    @property
    def unsent(self) -> int:
        """The bytes that have not gone out yet."""
        return sum(each.channel.unsent for each in self._members if each.channel is not None)

    def finish(self) -> None:
        """Nothing more is said."""
        for each in self._members:
            if each.channel is not None:
                each.channel.finish(_nothing)
                each.channel = None

    def close(self) -> None:
        """Let go of all of them."""
        self.changed = _nothing
        for drop in self._drops:
            drop()
        for each in self._members:
            if each.channel is not None:
                each.channel.close()
                each.channel = None


def _nothing() -> None:
    """Nobody minds."""


class _Arrived:
    """Hears of a further channel at the side that a machine comes to: its memory is taken for sent."""

    def received(self, data: bytes) -> None:
        """A part of the memory."""

    def sent(self) -> None:
        """What was said has gone out."""

    def lost(self, error: OSError | None) -> None:
        """Whoever sends ends the migration, if it has not ended."""


class Waiting:
    """The further channels of a machine that comes."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._taken: list[Channel] = []
        self._left: list[Channel] = []
        self._refused = 0
        self._preempting: Channel | None = None

    @property
    def are_all_there(self) -> bool:
        """Whether as many have come as are waited for."""
        return len(self._taken) >= multifd(self._side)

    def take_preempting(self, channel: Channel) -> bool:
        """The channel has come over which memory is sent that is asked for; false: nobody waits for it."""
        if self._preempting is not None or not self._side.has("postcopy-preempt"):
            return False
        self._preempting = channel
        self._begin(channel)
        return True

    def _begin(self, channel: Channel) -> None:
        channel.start(_Arrived())
        channel.send(stream.head() + stream.section("taken", {}))

    @property
    def were_too_many(self) -> bool:
        """Whether some came for which nobody waited, and others for which somebody did."""
        return bool(self._taken) and bool(self._refused or self._left)

    def take(self, channel: Channel) -> bool:
        """One has come; false: nobody waits for it."""
        if not self.are_all_there:
            self._taken.append(channel)
            self._begin(channel)
            return True
        course = self._side.course
        is_left = course.too_many_wait if multifd(self._side) else 0 <= course.channels_refused <= self._refused
        if is_left:
            self._left.append(channel)
            return True
        return False

    def refuse(self) -> None:
        """One has come for which nobody waits any more."""
        self._refused += 1

    def close(self) -> None:
        """Let go of all of them."""
        for each in (*self._taken, *self._left):
            each.close()
        self._taken, self._left = [], []
        if self._preempting is not None:
            self._preempting.close()
            self._preempting = None
