"""What a release refuses of the parameters and capabilities of migrations: the bounds, and what goes with what.

A release's folder has it as `migration.json`, in the order in which the release looks at them.
(QEMU's migration/options.c; recordings `migration`.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "migration.json"


class Bounds(NamedTuple):
    """The bounds of a parameter: `least_of` is another parameter that it must reach; `words` say so."""

    name: str
    words: str
    least: int = 0
    most: int | None = None
    least_of: str | None = None
    power_of_two: bool = False


class CapabilityRule(NamedTuple):
    """A rule of a capability that is set: what it requires, what it conflicts with, the parameters that must be plain.

    Where it has none of these, it cannot be had at all.
    """

    of: str
    words: str
    requires: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    plain: Mapping[str, object] = {}

    @property
    def is_absolute(self) -> bool:
        """Whether the capability cannot be had at all."""
        return not self.requires and not self.conflicts


class Course(NamedTuple):
    """How a release's migrations go (recordings `migration`).

    - `first_pass`: the first pass is told of, and the last one once the guest has stopped; false: neither, but the one
      before it has.
    - `pass_each_window`: with `postcopy-ram`, what the guest has changed is looked for each time before some more is
      copied, which is a pass of its own, and told; false: once all has been copied.
    - `device`: `device` is a state of each migration, not only of those that have waited in `pre-switchover`.
    - `failing`, `postcopy_device`, `recover_setup`: these are states.
    - `postcopy_cancel`: a migration can be cancelled while the guest is at the other side already.
    - `again`: a machine that has gone may go once more before it has run again.
    - `setup_kept`: `setup` is a state of those who wait, told once that begins; false: it is told of only, whether or
      not events are wanted.
    - `old_state_kept`: a machine that did not run has its run state back where a migration comes to nothing; false: it
      is in `postmigrate`.
    - `skipped`, `shares`, `remaining`: members of query-migrate.
    - `reason_kept`: query-migrate tells why a migration is paused or was cancelled.
    - `blocks_move`: disks can be copied along (`blk` and `inc`).
    - `buffer`: the bytes of data that go out before the limit of speed is looked at; 0: it is looked at for each page.
    - `deferred_alone`: a client may say where a machine comes from only where that was deferred; and where one that is
      paused goes on only once, be it right or wrong.
    - `drains`: when what is at work at the disks pauses as they are given away: `once`, for `each` node,
      or `afterwards`.
    - `channels_late`: the further channels are made once the memory goes; false: before, and each is answered.
    - `channels_lost_late`: that one of them is lost shows once the memory goes, and is told twice.
    - `channels_refused`: how many that nobody waits for are refused; more than that keep both sides waiting; -1: all.
    - `too_many_wait`: where more come than are waited for both sides wait; false: those are refused.
    - `tls_named_first`: a name for the certificate is asked for before anything is said, not once it has come.
    - `ends_insecure`: who waits for a machine ends where its own credentials are wrong once somebody comes.
    - `unplug_awaited`: one that is cancelled in `wait-unplug` waits for the guest to let go of its card, up to 30 s.
    - `bitmaps_locked`: a dirty bitmap that comes is in use until it is there, also one that notes nothing.
    - `way_left_open`: where the disks cannot be given away a side that answers is not told, and waits on.
    - `preset`: `multifd` and `postcopy-preempt` are to be set before anybody is waited for.
    """

    first_pass: bool = True
    pass_each_window: bool = False
    device: bool = True
    failing: bool = False
    postcopy_device: bool = False
    recover_setup: bool = True
    postcopy_cancel: bool = False
    again: bool = False
    setup_kept: bool = True
    old_state_kept: bool = True
    skipped: bool = False
    shares: bool = True
    remaining: bool = False
    reason_kept: bool = True
    blocks_move: bool = False
    buffer: int = 131072
    deferred_alone: bool = False
    drains: str = "once"
    preset: bool = True
    unplug_awaited: bool = True
    channels_late: bool = False
    channels_lost_late: bool = False
    channels_refused: int = -1
    too_many_wait: bool = True
    tls_named_first: bool = False
    ends_insecure: bool = True
    way_left_open: bool = False
    bitmaps_locked: bool = True


class MigrationFace(NamedTuple):
    """The rules of one release, in its order.

    `bits` are those that it keeps of some parameters, `ignored` the parameters that it takes and forgets; `course` is
    how its migrations go.
    """

    parameters: tuple[Bounds, ...] = ()
    capabilities: tuple[CapabilityRule, ...] = ()
    bits: Mapping[str, int] = {}
    ignored: frozenset[str] = frozenset()
    course: Course = Course()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> MigrationFace:
        """Read a release's file.

        :raise KeyError, TypeError: it is none.
        """
        return cls(
            tuple(Bounds(**_names(each)) for each in content["parameters"]),
            tuple(CapabilityRule(**_names(each)) for each in content["capabilities"]),
            content["bits"],
            frozenset(content["ignored"]),
            Course(**_names(content.get("course", {}))),
        )


def _names(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.replace("-", "_"): tuple(value) if isinstance(value, list) else value for name, value in entry.items()
    }
