"""Snapshots of the whole machine: `savevm` and its like, and the jobs that do the same.  (QEMU's migration/savevm.c.)

Each is a generator of pieces of work for the executor (`qmpd.block.transactions.Steps`): the machine's own part is done
between them.  The images are read and written in one piece, so that two of these cannot come between one another.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from qmpd.block.machine_snapshots import Disks, Moment, called
from qmpd.block.transactions import Alone, run
from qmpd.common.refusals import Refusal
from qmpd.machine import main_loop
from qmpd.machine.errors import MachineError
from qmpd.machine.run_state import LIVE, RunState
from qmpd.migration import stream
from qmpd.migration.states import MigrationStatus
from qmpd.migration.stream import BadStream
from qmpd.system import machine_state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode
    from qmpd.block.transactions import Steps
    from qmpd.system.system import System

_PAGE = 4096
_ZERO_PAGE = 9
"""The bytes that QEMU's stream takes for a page of memory that is all zeros."""
_USUAL_MEMORY = 32 << 20
"""The memory of the machine whose state was measured (`Behaviour.machine_state_size`)."""


class Whole(Alone):
    """Pieces of work that nobody lists among others, as one action."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def prepare(self) -> Steps | None:
        """:raise Refusal: as the steps do."""
        return self._steps


def _graph(system: System) -> BlockGraph:
    return system.inventory.backends.block


def _disks(system: System, names: Sequence[str] | None, *, check: bool = True) -> Disks:
    behaviour = system.release.behaviour
    return Disks(
        _graph(system), names, check=check, active=behaviour.snapshot_needs_active,
        only_later=behaviour.snapshots_skip_earlier,
    )  # fmt: skip


def state_size(system: System) -> int:
    """How many bytes the state of a machine like this takes in QEMU, about: that many it takes here."""
    behaviour = system.release.behaviour
    if not system.settings.board.has_cpus:
        return behaviour.bare_state_size
    pages = (system.settings.memory - _USUAL_MEMORY) // _PAGE
    ran = behaviour.machine_state_growth if system.machine.has_run else 0
    return behaviour.machine_state_size + ran + max(pages * _ZERO_PAGE, 0)


def save(
    system: System, tag: str | None, *, replace: bool, state_in: str | None = None, names: Sequence[str] | None = None
) -> Steps:
    """Take a snapshot; `replace` one of the same name, where there is one.

    :raise Refusal: no disk can have the state, or one can have no snapshots, or has one of this name.
    """
    machine = system.machine
    machine_state.check_movable(system)
    disks = _disks(system, names)
    if tag is not None and replace:
        # The old ones go first, whether a new one can be taken or not.
        system.jobs.changed_as("snapshot-delete")
        yield lambda: disks.delete(tag)
    elif tag is not None:
        if (yield lambda: disks.lacking(tag)) is None:
            raise MachineError(f"Snapshot '{tag}' already exists in one or more devices")
    node = disks.of_state(state_in, "snapshot-no-device-save")
    before = machine.state
    machine.vm_stop(RunState.SAVE_VM)
    _graph(system).drain_all()
    try:
        wall = machine.clock.wall_microseconds()
        name = tag if tag is not None else time.strftime("vm-%Y%m%d%H%M%S", time.localtime(wall // 1_000_000))
        state = stream.write(machine_state.take(system))
        moment, size = Moment(wall, machine.schedule.now()), state_size(system)
        _tell(system, MigrationStatus.SETUP)
        try:
            yield lambda: disks.take(name, moment, node, state, size)
        except (MachineError, Refusal, OSError):
            _tell(system, MigrationStatus.FAILED)
            raise
        _tell(system, MigrationStatus.COMPLETED)
        system.migrations.saved()
    finally:
        resume(system, before, RunState.SAVE_VM)


def _tell(system: System, status: MigrationStatus) -> None:
    """Tell of a snapshot's course, where events of migrations are wanted: its state is written as that of one is.

    All memory is gone through twice, which is told in the releases that tell of the first time.  (Measured on the four
    releases.)
    """
    if system.migration is None or not system.migration.capabilities.get("events"):
        return
    system.machine.emit("MIGRATION", {"status": str(status)})
    if status is MigrationStatus.SETUP and system.release.migration.course.first_pass:
        for number in (1, 2):
            system.machine.emit("MIGRATION_PASS", {"pass": number})


def resume(system: System, before: RunState, meanwhile: RunState) -> None:
    """Have a machine go on that was stopped for this, unless something else has become of it."""
    if before in LIVE and system.machine.state is meanwhile:
        system.machine.vm_start()


def load(
    system: System, tag: str, *, state_in: str | None = None, names: Sequence[str] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Steps:  # fmt: skip
    """Go back to a snapshot; the vCPUs stand still by then.

    `tell` is told what is wrong with a state, where the release says that apart; by default standard error is.

    :raise Refusal: it is not there, or what is there cannot be loaded.
    """
    disks = _disks(system, names)
    without: BlockNode | None = yield lambda: disks.lacking(tag)
    if without is not None:
        raise Refusal("snapshot-missing", tag=tag, device=called(without))
    node = disks.of_state(state_in, "snapshot-no-device")
    if not (yield lambda: disks.has_state(node, tag)):
        raise Refusal("snapshot-disk-only")
    content: bytes = yield lambda: disks.go_back(tag, node)
    main_loop.reset_silently(system.machine)
    try:
        sections = stream.read(content)
        machine_state.check(system, sections)
        machine_state.put(system, sections)
    except BadStream as error:
        if not system.release.behaviour.state_errors_told:
            (tell or system.machine.report)(error.message)
        raise Refusal("snapshot-load-failed", number=-error.number, why=error.message + error.detail) from None


def load_and_go_on(
    system: System, tag: str, *, state_in: str | None = None, names: Sequence[str] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Steps:  # fmt: skip
    """The same, for a machine that may run, and goes on then; where it fails it does not."""
    before = system.machine.state
    system.machine.vm_stop(RunState.RESTORE_VM)
    yield from load(system, tag, state_in=state_in, names=names, tell=tell)
    resume(system, before, RunState.RESTORE_VM)


def start_from(system: System, tag: str) -> None:
    """Have a machine that is to start go on from a snapshot (`-loadvm`); where that cannot be it ends."""

    def ended(refusal: Refusal | None) -> None:
        machine = system.machine
        if refusal is not None:
            machine.report(system.release.refusals.message(refusal))
            machine.end(1)
        elif machine.autostart and machine.state is RunState.PRELAUNCH:
            machine.vm_start()

    run([Whole(load(system, tag))], system.disks.executor, ended)


def delete(system: System, tag: str, names: Sequence[str] | None = None) -> Steps:
    """Delete a snapshot, where it is.

    :raise Refusal: one cannot be deleted.
    """
    disks = _disks(system, names, check=names is not None or system.release.behaviour.snapshot_deletion_checks)
    system.jobs.changed_as("snapshot-delete")
    yield lambda: disks.delete(tag)
