"""Run states, and which may follow which.

A machine is always in exactly one run state; `query-status` shows it, and the events STOP, RESUME, SUSPEND
and the like tell of its changes.  The vCPUs run in `running` alone: whatever else the state is, the guest
makes no progress.  The other states say why it makes none and what would set it going again:

- before it ever ran: `prelaunch` (`-S`; also what a reset leaves behind where the machine was not running),
  `preconfig` (`-preconfig`, up to 5.2), `inmigrate` (`-incoming`);
- by request: `paused` (`stop`), `debug` (a breakpoint), `save-vm`, `restore-vm`, `finish-migrate`,
  `postmigrate`, `colo`;
- for what happened to it: `io-error`, `watchdog`, `guest-panicked` (`cont` goes on from each of them);
  `internal-error` and `shutdown` (only a reset helps, `cont` is refused: `NEEDS_RESET`);
- because the guest sleeps: `suspended` (ACPI S3), left by a wakeup or a reset.  Nobody stopped the machine
  then; with `running` it is one of the `LIVE` states.

Nothing changes the state but `Machine.set_state`, which looks the change up in the table and raises
`InvalidTransition` for one that is not there: such a change is a bug of the core, as it is one of QEMU,
which aborts.  Staying in a state is always allowed.

The table is QEMU's `runstate_transitions_def` (system/runstate.c; softmmu/vl.c up to 5.2).  Releases differ
in two places, each decided by a field of the release's behaviour: where `preconfig` is a run state it has
two ways out, and where `stop` affects a suspended guest there are transitions that take it out of
`suspended` and back.
"""

from __future__ import annotations

import enum
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qmpd.machine.behaviour import CoreBehaviour


class RunState(enum.StrEnum):
    """The states of a machine (QAPI `RunState`)."""

    DEBUG = "debug"
    INMIGRATE = "inmigrate"
    INTERNAL_ERROR = "internal-error"
    IO_ERROR = "io-error"
    PAUSED = "paused"
    POSTMIGRATE = "postmigrate"
    PRELAUNCH = "prelaunch"
    FINISH_MIGRATE = "finish-migrate"
    RESTORE_VM = "restore-vm"
    RUNNING = "running"
    SAVE_VM = "save-vm"
    SHUTDOWN = "shutdown"
    SUSPENDED = "suspended"
    WATCHDOG = "watchdog"
    GUEST_PANICKED = "guest-panicked"
    COLO = "colo"
    PRECONFIG = "preconfig"


_S = RunState

LIVE = frozenset({_S.RUNNING, _S.SUSPENDED})
"""The states in which nobody has stopped the machine (QEMU's `runstate_is_live`, 9.0)."""

NEEDS_RESET = frozenset({_S.INTERNAL_ERROR, _S.SHUTDOWN})
"""The states that `cont` cannot leave (QEMU's `runstate_needs_reset`)."""

KEPT_BY_RESET = frozenset({_S.RUNNING, _S.INMIGRATE, _S.FINISH_MIGRATE})
"""The states that a reset leaves as they are; any other becomes `prelaunch` (QEMU's `main_loop_should_exit`)."""

TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    _S.PRELAUNCH: frozenset({_S.RUNNING, _S.FINISH_MIGRATE, _S.INMIGRATE}),
    _S.DEBUG: frozenset({_S.RUNNING, _S.SUSPENDED, _S.FINISH_MIGRATE, _S.PRELAUNCH}),
    _S.INMIGRATE: frozenset({
        _S.INTERNAL_ERROR, _S.IO_ERROR, _S.PAUSED, _S.RUNNING, _S.SHUTDOWN, _S.SUSPENDED, _S.WATCHDOG,
        _S.GUEST_PANICKED, _S.FINISH_MIGRATE, _S.PRELAUNCH, _S.POSTMIGRATE, _S.COLO,
    }),
    _S.INTERNAL_ERROR: frozenset({_S.PAUSED, _S.FINISH_MIGRATE, _S.PRELAUNCH}),
    _S.IO_ERROR: frozenset({_S.RUNNING, _S.FINISH_MIGRATE, _S.PRELAUNCH}),
    _S.PAUSED: frozenset({_S.RUNNING, _S.FINISH_MIGRATE, _S.POSTMIGRATE, _S.PRELAUNCH, _S.COLO}),
    _S.POSTMIGRATE: frozenset({_S.RUNNING, _S.FINISH_MIGRATE, _S.PRELAUNCH}),
    _S.FINISH_MIGRATE: frozenset({_S.RUNNING, _S.PAUSED, _S.POSTMIGRATE, _S.PRELAUNCH, _S.COLO}),
    _S.RESTORE_VM: frozenset({_S.RUNNING, _S.PRELAUNCH}),
    _S.RUNNING: frozenset({
        _S.DEBUG, _S.INTERNAL_ERROR, _S.IO_ERROR, _S.PAUSED, _S.FINISH_MIGRATE, _S.RESTORE_VM, _S.SAVE_VM,
        _S.SHUTDOWN, _S.SUSPENDED, _S.WATCHDOG, _S.GUEST_PANICKED, _S.COLO,
    }),
    _S.SAVE_VM: frozenset({_S.RUNNING}),
    _S.SHUTDOWN: frozenset({_S.PAUSED, _S.FINISH_MIGRATE, _S.PRELAUNCH, _S.COLO}),
    _S.SUSPENDED: frozenset({_S.RUNNING, _S.FINISH_MIGRATE, _S.PRELAUNCH, _S.COLO}),
    _S.WATCHDOG: frozenset({_S.RUNNING, _S.FINISH_MIGRATE, _S.PRELAUNCH, _S.COLO}),
    _S.GUEST_PANICKED: frozenset({_S.RUNNING, _S.FINISH_MIGRATE, _S.PRELAUNCH}),
    _S.COLO: frozenset({_S.RUNNING, _S.PRELAUNCH, _S.SHUTDOWN}),
    _S.PRECONFIG: frozenset(),
}
"""State -> the states that may follow it, in every release."""

PRECONFIG_TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    _S.PRECONFIG: frozenset({_S.PRELAUNCH, _S.INMIGRATE}),
}
"""Also allowed where `preconfig` is a run state (`CoreBehaviour.preconfig_run_state`)."""

SUSPENDED_TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    _S.PRELAUNCH: frozenset({_S.SUSPENDED}),
    _S.PAUSED: frozenset({_S.SUSPENDED}),
    _S.RESTORE_VM: frozenset({_S.SUSPENDED}),
    _S.SAVE_VM: frozenset({_S.SUSPENDED}),
    _S.SUSPENDED: frozenset({_S.PAUSED, _S.SAVE_VM, _S.RESTORE_VM, _S.SHUTDOWN}),
    _S.FINISH_MIGRATE: frozenset({
        _S.INTERNAL_ERROR, _S.IO_ERROR, _S.SHUTDOWN, _S.SUSPENDED, _S.WATCHDOG, _S.GUEST_PANICKED,
    }),
}
"""Also allowed where `stop` affects a suspended guest (`CoreBehaviour.stop_affects_suspended`)."""


@cache
def _table(preconfig: bool, suspended: bool) -> dict[RunState, frozenset[RunState]]:
    table = dict(TRANSITIONS)
    for wanted, more in ((preconfig, PRECONFIG_TRANSITIONS), (suspended, SUSPENDED_TRANSITIONS)):
        if wanted:
            for state, followers in more.items():
                table[state] |= followers
    return table


def transitions(behaviour: CoreBehaviour) -> dict[RunState, frozenset[RunState]]:
    """The table of one release; shared, so not to be changed."""
    return _table(behaviour.preconfig_run_state == _S.PRECONFIG, behaviour.stop_affects_suspended)
