"""The states of jobs, and what may be asked of a job in each of them.  (QEMU's job.c and qapi/job.json.)

**A life.**  A job is `created`, then `running`.  It runs until it is asked to pause (`paused`) or has nothing left to
do.  A job that copies what a guest goes on changing becomes `ready` instead: from then on both sides are alike, and it
goes on until somebody completes or cancels it; where it is paused then, it is in `standby`.

**The end.**  A job that has done its work is `waiting` until all jobs of its transaction have; most are alone, and wait
for nobody.  Then it is `pending`: all that is left is to make its effect visible.  That happens at once, or at
`job-finalize` where the job was started with `auto-finalize` false.  A job that has failed or was cancelled is
`aborting` instead, and so are all others of its transaction.  Then it is `concluded`, and its result can be read until
it is dismissed: at once, or by `job-dismiss` where it was started with `auto-dismiss` false.  `null` means that it is
gone; `undefined`, that it is not there yet.  No query shows either.

**Two kinds of pauses.**  A user pauses a job once, and resumes it.  Everybody else who needs its nodes to be quiet
(a *drain*) counts: the job goes on when nobody has it paused any more.  A job does not stop where it is: its work has
*pause points*, at which it looks whether it is to.

**Who moves a job.**  Its work is a generator (`Job.run`) that yields what it waits for: a moment of the clock
(`Sleep`), a piece of reading and writing (`Work`), or to be woken.  It is *busy* but for while it sleeps, and a job
that is busy is not woken.  Where it has ended the rest of its life follows in the main loop's next turn.  So the order
of events and replies is that of QEMU, whose jobs are coroutines, and whose end is left to a bottom half.

**Verbs.**  What clients ask for is refused in the states that the second table does not name.
"""

from __future__ import annotations

import enum


class JobStatus(enum.StrEnum):
    """QAPI's `JobStatus`."""

    UNDEFINED = "undefined"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    READY = "ready"
    STANDBY = "standby"
    WAITING = "waiting"
    PENDING = "pending"
    ABORTING = "aborting"
    CONCLUDED = "concluded"
    NULL = "null"


_S = JobStatus

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    _S.UNDEFINED: frozenset({_S.CREATED}),
    _S.CREATED: frozenset({_S.RUNNING, _S.ABORTING, _S.NULL}),
    _S.RUNNING: frozenset({_S.PAUSED, _S.READY, _S.WAITING, _S.ABORTING}),
    _S.PAUSED: frozenset({_S.RUNNING}),
    _S.READY: frozenset({_S.STANDBY, _S.WAITING, _S.ABORTING}),
    _S.STANDBY: frozenset({_S.READY}),
    _S.WAITING: frozenset({_S.PENDING, _S.ABORTING}),
    _S.PENDING: frozenset({_S.ABORTING, _S.CONCLUDED}),
    _S.ABORTING: frozenset({_S.ABORTING, _S.CONCLUDED}),
    _S.CONCLUDED: frozenset({_S.NULL}),
    _S.NULL: frozenset(),
}
"""Which state may follow which."""

_ALIVE = frozenset({_S.CREATED, _S.RUNNING, _S.PAUSED, _S.READY, _S.STANDBY})

VERBS: dict[str, frozenset[JobStatus]] = {
    "cancel": _ALIVE | {_S.WAITING, _S.PENDING},
    "pause": _ALIVE,
    "resume": _ALIVE,
    "set-speed": _ALIVE,
    "complete": frozenset({_S.READY}),
    "finalize": frozenset({_S.PENDING}),
    "dismiss": frozenset({_S.CONCLUDED}),
    "change": _ALIVE,
    # A fault may have it fail, as if its work had.
    "fail": frozenset({_S.RUNNING, _S.READY}),
}
"""In which states a job may be asked for what.  Some releases let one in `standby` be completed (`JobBehaviour`)."""

ENDED = frozenset({_S.WAITING, _S.PENDING, _S.ABORTING, _S.CONCLUDED, _S.NULL})
"""The states of a job whose work is over."""
