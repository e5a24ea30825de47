"""What the two sides of a migration need of the machine that they move (`qmpd.system.migrations`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.common.refusals import Refusal
    from qmpd.machine import Machine
    from qmpd.migration.bitmaps import ArrivingBitmaps, LeavingBitmaps
    from qmpd.migration.channel import Channel, Way
    from qmpd.migration.disks import Arriving
    from qmpd.migration.faults import Faults
    from qmpd.migration.memory import Size
    from qmpd.qapi.migration import Course


class Primaries(Protocol):
    """The network cards that cannot come along, and go out of the guest before (`qmpd.system.primaries`)."""

    @property
    def are_awaited(self) -> bool:
        """Whether the guest has yet to let go of one."""

    def unplug(self) -> None:
        """Ask the guest to let go of them."""

    def plug_back(self) -> None:
        """Let it have them again: the machine stays."""


class Side(Protocol):
    """One machine that goes, or comes."""

    @property
    def machine(self) -> Machine:
        """Its run-state core."""

    @property
    def course(self) -> Course:
        """How its release's migrations go."""

    @property
    def primaries(self) -> Primaries:
        """The network cards that go out of the guest before it goes."""

    @property
    def faults(self) -> Faults:
        """What goes wrong with its migrations."""

    @property
    def cpus(self) -> int:
        """How many CPUs it has."""

    def has(self, capability: str) -> bool:
        """Whether a capability is set."""

    def parameter(self, name: str) -> Any:
        """The value of a parameter; None where the release knows none of that name."""

    @property
    def arriving_disks(self) -> Arriving:
        """Who writes the disks that are copied to it."""

    def size(self) -> Size:
        """How large its memory is."""

    def kind(self) -> Mapping[str, Any]:
        """What kind of machine it is."""

    def check_kind(self, kind: Mapping[str, Any]) -> None:
        """See whether a machine of this kind can be this one.

        :raise BadStream: it cannot.
        """

    def take_state(self) -> Mapping[str, Any]:
        """All of it, in the sections of a stream (`qmpd.migration.stream`)."""

    def put_state(self, sections: Mapping[str, Any]) -> None:
        """Be in this state.

        :raise BadStream: it is not one of a machine like this.
        """

    def leaving_bitmaps(self) -> LeavingBitmaps | None:
        """The dirty bitmaps that go along, from now on; None where none are to.

        :raise Refusal: one cannot.
        """

    @property
    def arriving_bitmaps(self) -> ArrivingBitmaps:
        """Who has the bitmaps that come along."""

    def drain_disks(self, *, each: bool = False) -> None:
        """Have what is going on at its disks pause for a moment, once, or for `each` of their nodes."""

    def give_disks(self, *, code: str = "disks-written") -> bool:
        """Let go of its disks: another machine has them now; false where that cannot be, which `code` tells."""

    def arrived(self) -> None:
        """The machine is here, and takes its disks once it goes on."""

    def take_disks(self, *, runs: bool = True) -> str | None:
        """Have its disks, alone once it runs; where that cannot be: why."""

    def reach(self, way: Way, then: Callable[[Channel | str], None]) -> Callable[[], None]:
        """Make a channel (`qmpd.migration.channel.Ways`).

        :raise Refusal: it shows at once that there is none.
        """

    def words(self, refusal: Refusal) -> str:
        """How the release says that."""

    def wake(self, name: str) -> None:
        """The activity of this name has something to do."""
