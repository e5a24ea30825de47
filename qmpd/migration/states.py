"""The states of a migration, at the side that a machine leaves and at the one that it comes to.  (QEMU's migration.c.)

**Setting out.**  A migration begins in `setup`: the way to the other side is made, and devices that cannot come along
are taken out of the guest (`wait-unplug`).  Once there is a way the migration is `active`: the guest's memory is copied
while the guest runs, in passes.  What the guest has changed during a pass is copied in the next one.

**Arriving.**  A pass may end with so little left that it can be copied within `downtime-limit`.  Then the guest is
stopped.  Where it was asked for (`pause-before-switchover`) the migration waits in `pre-switchover` until somebody says
`migrate-continue`.  In `device` the rest of the memory and the devices are copied; releases before 10.0 are in `device`
only where they have waited before.  Then the migration is `completed`, and the guest goes on at the other side.

**Copying later.**  `migrate-start-postcopy` turns this round: the devices are copied first and the guest goes on at the
other side, which asks for the memory that it lacks (`postcopy-active`; 11.1 says `postcopy-device` before that).  It
waits in `pre-switchover` first where that was asked for.  From then on neither side has all of the guest.  So a way
that is lost ends nothing: both sides are `postcopy-paused` until there is another way (`migrate-recover` there,
`migrate` with `resume` here), which is `postcopy-recover` (`postcopy-recover-setup` while it is made, from 10.0 on).

**Going wrong.**  Whatever fails before that ends the migration as `failed` (11.1 is `failing` until all is put back),
and the guest goes on where it was.  `migrate_cancel` makes it `cancelling`, and `cancelled` once all is put back.
A machine that somebody waits for with `-incoming` has nothing to go back to: its process ends.

`colo`, where a second machine runs beside the first, is never entered here; it is refused.

Both sides obey one table.  Who comes goes from `setup` (or `none`) to `active` as soon as somebody is connected.
"""

from __future__ import annotations

import enum


class MigrationStatus(enum.StrEnum):
    """QAPI's `MigrationStatus`; `failing` and `postcopy-device` are 11.1's, `postcopy-recover-setup` came with 10.0."""

    NONE = "none"
    SETUP = "setup"
    WAIT_UNPLUG = "wait-unplug"
    ACTIVE = "active"
    PRE_SWITCHOVER = "pre-switchover"
    DEVICE = "device"
    POSTCOPY_DEVICE = "postcopy-device"
    POSTCOPY_ACTIVE = "postcopy-active"
    POSTCOPY_PAUSED = "postcopy-paused"
    POSTCOPY_RECOVER_SETUP = "postcopy-recover-setup"
    POSTCOPY_RECOVER = "postcopy-recover"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILING = "failing"
    FAILED = "failed"
    COMPLETED = "completed"


_S = MigrationStatus

_LOST = frozenset({_S.FAILING, _S.FAILED, _S.CANCELLING})

TRANSITIONS: dict[MigrationStatus, frozenset[MigrationStatus]] = {
    _S.NONE: frozenset({_S.SETUP, _S.ACTIVE}),
    _S.SETUP: frozenset({_S.WAIT_UNPLUG, _S.ACTIVE}) | _LOST,
    _S.WAIT_UNPLUG: frozenset({_S.ACTIVE}) | _LOST,
    _S.ACTIVE: frozenset({
        _S.PRE_SWITCHOVER, _S.DEVICE, _S.POSTCOPY_DEVICE, _S.POSTCOPY_ACTIVE, _S.COMPLETED,
    }) | _LOST,
    _S.PRE_SWITCHOVER: frozenset({_S.DEVICE, _S.POSTCOPY_ACTIVE}) | _LOST,
    _S.DEVICE: frozenset({_S.POSTCOPY_DEVICE, _S.POSTCOPY_ACTIVE, _S.COMPLETED}) | _LOST,
    _S.POSTCOPY_DEVICE: frozenset({_S.POSTCOPY_ACTIVE, _S.POSTCOPY_PAUSED}) | _LOST,
    _S.POSTCOPY_ACTIVE: frozenset({_S.POSTCOPY_PAUSED, _S.COMPLETED}) | _LOST,
    _S.POSTCOPY_PAUSED: frozenset({_S.POSTCOPY_RECOVER_SETUP, _S.POSTCOPY_RECOVER}) | _LOST,
    _S.POSTCOPY_RECOVER_SETUP: frozenset({_S.POSTCOPY_RECOVER, _S.POSTCOPY_PAUSED}) | _LOST,
    _S.POSTCOPY_RECOVER: frozenset({_S.POSTCOPY_ACTIVE, _S.POSTCOPY_PAUSED}) | _LOST,
    _S.CANCELLING: frozenset({_S.CANCELLED}),
    _S.CANCELLED: frozenset(),
    _S.FAILING: frozenset({_S.FAILED}),
    _S.FAILED: frozenset(),
    _S.COMPLETED: frozenset(),
}
"""Which state may follow which."""

ENDS = frozenset({_S.CANCELLED, _S.FAILED, _S.COMPLETED})
"""The states of a migration that is over; another one may begin."""

POSTCOPY = frozenset({
    _S.POSTCOPY_DEVICE, _S.POSTCOPY_ACTIVE, _S.POSTCOPY_PAUSED, _S.POSTCOPY_RECOVER_SETUP, _S.POSTCOPY_RECOVER,
})
"""The states in which the guest is at the other side already, and some of its memory is not."""

GOING_ON = frozenset(TRANSITIONS) - ENDS - {_S.NONE}
"""The states of a migration that is under way."""

TOLD_IN_FULL = GOING_ON - {_S.SETUP, _S.WAIT_UNPLUG, _S.FAILING}
"""The states in which query-migrate tells how far it is."""

VERBS: dict[str, frozenset[MigrationStatus]] = {
    "cancel": GOING_ON,
    "continue": frozenset({_S.PRE_SWITCHOVER}),
    "pause": frozenset({_S.POSTCOPY_ACTIVE, _S.POSTCOPY_RECOVER}),
    "recover": frozenset({_S.POSTCOPY_PAUSED}),
    "start-postcopy": GOING_ON,
    # A fault may have it fail, as if the way to the other side were lost.
    "fail": GOING_ON - {_S.CANCELLING, _S.FAILING, _S.POSTCOPY_PAUSED},
}
"""In which states a migration may be asked for what."""
