"""A machine's migrations: what commands ask for, and what the two sides need of the machine (`qmpd.migration`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import orjson

from qmpd.common.refusals import NotModelled, Refusal, Worded
from qmpd.machine.errors import MachineError
from qmpd.machine.run_state import RunState
from qmpd.migration import addresses, figures, going, incoming
from qmpd.migration.disks import Arriving, Leaving
from qmpd.migration.faults import NONE
from qmpd.migration.incoming import Incoming
from qmpd.migration.memory import PAGE, Size
from qmpd.migration.outgoing import Outgoing
from qmpd.migration.states import MigrationStatus
from qmpd.schedule.activity import VerbRefused
from qmpd.system import machine_state, moved_bitmaps, moved_disks
from qmpd.system.askers import MonitorAsker
from qmpd.system.copied_disks import CopiedDisks
from qmpd.system.migration_ways import MigrationWays
from qmpd.system.primaries import Primaries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.common.computer import Computer
    from qmpd.guest.course import Guest
    from qmpd.machine import Machine
    from qmpd.migration.channel import Channel, Way, Ways
    from qmpd.migration.faults import Faults
    from qmpd.migration.settings import MigrationSettings
    from qmpd.qapi.migration import Course
    from qmpd.schedule.activity import Activities
    from qmpd.system import copied_disks
    from qmpd.system.askers import WithFiles
    from qmpd.system.moved_bitmaps import ArrivingBitmaps, LeavingBitmaps
    from qmpd.system.ports import Host

    class System(WithFiles, machine_state.System, copied_disks.System, Protocol):
        """A whole machine (`qmpd.system.system.System`)."""

        host: Host | None
        computer: Computer
        migration: MigrationSettings | None

        @property
        def guest(self) -> Guest | None:
            """What runs on it."""

        @property
        def activities(self) -> Activities:
            """Its long work."""

        @property
        def migration_settings(self) -> MigrationSettings:
            """What was set for its migrations."""

DEFERRED = "defer"
_S = MigrationStatus
# A board's own memory beside the guest's (firmware, tables), and its pages that hold something.
_BOARD_MEMORY, _BOARD_DATA = 532_480, 49
_FIRMWARE_HAS_RUN = 64
"""Pages that a guest has written by the time that its firmware has run."""


class Migrations:
    """The migrations of one machine (`qmpd.migration.side.Side`).

    `outgoing` and `incoming` are the latest of each kind; None before there was one.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self.machine: Machine = system.machine
        self.course: Course = system.release.migration.course
        self.outgoing: Outgoing | None = None
        self.incoming: Incoming | None = None
        # How large the machine was as it was last saved in a snapshot, and which migration there was before.
        self._saved: tuple[Outgoing | None, Size] | None = None
        self.faults: Faults = NONE
        self.ways = MigrationWays(system, self)
        self.primaries = Primaries(system)
        self._usual: dict[str, Any] | None = None

    # What the two sides need

    def has(self, capability: str) -> bool:
        """Whether a capability is set."""
        settings = self._system.migration
        return settings is not None and bool(settings.capabilities.get(capability))

    @property
    def usual(self) -> dict[str, Any]:
        """The release's own parameters; the last one first, as that is how they were put in."""
        if self._usual is None:
            self._usual = dict(reversed(self._captured("query-migrate-parameters").items()))
        return self._usual

    def _captured(self, name: str) -> Any:
        system = self._system
        found = system.release.captured(name, {}, system.settings.board.reference, {})
        if not isinstance(found, bytes):
            raise Worded(f"qmpd does not know what {name} answers in this release")
        return orjson.loads(found)

    @property
    def capabilities(self) -> list[dict[str, Any]]:
        """The release's capabilities, and whether each is set."""
        known = self._captured("query-migrate-capabilities")
        return [{"capability": each["capability"], "state": self.has(each["capability"])} for each in known]

    def parameter(self, name: str) -> Any:
        """The value of a parameter; None where the release knows none of that name."""
        settings = self._system.migration
        if settings is not None and name in settings.parameters:
            return settings.parameters[name]
        return self.usual.get(name)

    @property
    def cpus(self) -> int:
        """How many CPUs it has."""
        return self._system.settings.topology.cpus

    def size(self) -> Size:
        """How large the machine's memory is."""
        settings = self._system.settings
        if not settings.board.has_cpus:
            return Size(0, 0)
        pages = (settings.memory + _BOARD_MEMORY) // PAGE
        data = _BOARD_DATA + self._loaded() + (_FIRMWARE_HAS_RUN if self.machine.has_run else 0)
        guest = None if self._system.guest is None else self._system.guest.settings
        if guest is None:
            return Size(pages, min(data, pages))
        used, rate = guest.memory_used // PAGE, guest.dirty_rate
        return Size(pages, min(data + used, pages), rate, min(used or settings.memory // PAGE, pages))

    def _loaded(self) -> int:
        """The pages that files were loaded into."""
        files = [
            str(each.properties["file"])
            for each in self._system.settings.devices
            if each.driver == "loader" and "file" in each.properties
        ]
        size = 0
        for path in files:
            try:
                size += self._system.computer.size(path)
            except OSError:
                continue
        return -(-size // PAGE) + len(self._system.memory_pages)

    def kind(self) -> Mapping[str, Any]:
        """What kind of machine it is, and which one where that counts."""
        kind, identifier = machine_state.kind(self._system), self._system.settings.uuid
        return {**kind, "uuid": identifier} if identifier is not None and self.has("validate-uuid") else kind

    def check_kind(self, kind: Mapping[str, Any]) -> None:
        """See whether a machine of this kind can be this one.

        :raise BadStream: it cannot.
        """
        machine_state.check_kind(self._system, kind)

    def take_state(self) -> Mapping[str, Any]:
        """All of the machine."""
        return machine_state.take(self._system)

    def leaving_bitmaps(self) -> LeavingBitmaps | None:
        """The dirty bitmaps that go along, which nobody else works with then; None where none are to.

        :raise Refusal: one cannot.
        """
        return moved_bitmaps.leaving(self._system, self) if self.has("dirty-bitmaps") else None

    @property
    def arriving_bitmaps(self) -> ArrivingBitmaps:
        """Who has the bitmaps that come along."""
        return moved_bitmaps.ArrivingBitmaps(self._system, self)

    def put_state(self, sections: Mapping[str, Any]) -> None:
        """Be in this state.

        :raise BadStream: it is not one of a machine like this.
        """
        machine_state.check(self._system, sections)
        machine_state.put(self._system, sections)

    def drain_disks(self, *, each: bool = False) -> None:
        """Have what is going on at the machine's disks pause for a moment, once, or for `each` of their nodes."""
        moved_disks.drain(self._system.built, each=each)

    def give_disks(self, *, code: str = "disks-written") -> bool:
        """Let go of the machine's disks; false where somebody may write to one still, which `code` tells."""
        built, behaviour = self._system.built, self._system.release.behaviour
        if moved_disks.are_kept(built, old_data=behaviour.written_disks_stay):
            self.machine.report(self.words(Refusal(code)))
            return False
        moved_disks.give(built)
        return True

    def arrived(self) -> None:
        """The machine is here, and takes its disks once it goes on."""
        moved_disks.arrived(self._system.built)

    def take_disks(self, *, runs: bool = True) -> str | None:
        """Have the machine's disks, alone once it runs; where that cannot be: why."""
        try:
            moved_disks.take(self._system.built, runs=runs)
        except Refusal as refusal:
            return self.words(refusal)
        except MachineError as error:
            return error.message
        return None

    def words(self, refusal: Refusal) -> str:
        """How the release says that."""
        return self._system.release.refusals.message(refusal)

    def wake(self, name: str) -> None:
        """An activity has something to do."""
        self._system.activities.wake(name)

    def go_on_after_fault(self) -> None:
        """What has kept a migration from going on is over."""
        if self.is_under_way:
            self.wake(going.NAME)

    def _ways(self) -> Ways:
        if self._system.host is None:
            raise NotModelled("the migration of a machine that nobody serves")
        return self._system.host.migration_ways()

    def reach(self, way: Way, then: Callable[[Channel | str], None]) -> Callable[[], None]:
        """Make a channel.

        :raise Refusal: it shows at once that there is none.
        """
        return self._ways().reach(self.ways.with_file(way), then)

    # Going

    def migrate(self, arguments: Mapping[str, Any], monitor: str) -> None:
        """Go somewhere else (QMP `migrate`).

        :raise Refusal: that cannot be.
        """
        resume = bool(arguments.get("resume"))
        read_first = self._system.release.behaviour.incoming_channels
        if read_first:
            way = self.ways.way(arguments, monitor, incoming=False)
            self.ways.check_transport(way.address)
            self._check_may_go(resume=resume)
        else:
            self._check_may_go(resume=resume)
            try:
                way = self.ways.way(arguments, monitor, incoming=False)
            except Refusal as refusal:
                failed = self.outgoing = Outgoing(self)
                failed.enter(_S.SETUP)
                failed.refused(None if refusal.code == "migration-protocol" else self.words(refusal))
                raise
        self._check_modelled(way.address)
        if resume:
            cast("Outgoing", self.outgoing).resume(way)
            return
        self.outgoing = Outgoing(self, self._leaving_disks(arguments))
        self._system.activities.begin(going.NAME, self.outgoing, None)
        self.outgoing.set_out(way)

    def _leaving_disks(self, arguments: Mapping[str, Any]) -> Leaving | None:
        """The disks that are to be copied along; None where none are."""
        if not (self.has("block") or arguments.get("blk") or arguments.get("inc")) or self._system.built is None:
            return None
        top_alone = bool(arguments.get("inc") or (not arguments.get("blk") and self.parameter("block-incremental")))
        return Leaving(CopiedDisks(self._system, top_alone=top_alone), lambda: self.wake(going.NAME))

    @property
    def arriving_disks(self) -> Arriving:
        """Who writes the disks that are copied to this machine."""
        return Arriving(CopiedDisks(self._system, top_alone=False), lambda: self.wake(incoming.NAME))

    def _check_modelled(self, address: Mapping[str, Any]) -> None:
        """:raise NotModelled: it would be something else than what is asked for."""
        if self.parameter("tls-creds") and address["transport"] != "socket":
            raise NotModelled("TLS around a command or a file")

    def _check_may_go(self, *, resume: bool) -> None:
        """:raise Refusal: the machine cannot go now."""
        last = self.outgoing
        if resume:
            if last is None or last.state is not _S.POSTCOPY_PAUSED:
                raise Refusal("migration-resume")
            return
        if last is not None and last.is_under_way:
            raise Refusal("migration-active")
        if self.machine.state is RunState.INMIGRATE:
            raise Refusal("migration-incoming-waits")
        if self.machine.state is RunState.POSTMIGRATE and not self.course.again:
            raise Refusal("migration-again")
        machine_state.check_movable(self._system)

    def lacks_credentials(self, why: str) -> None:
        """Somebody has come, and there are no credentials with which to speak to them."""
        self.machine.report(why)
        if self.course.ends_insecure and self.incoming is not None and self.incoming.exits:
            self.machine.end(1)

    def cancel(self) -> None:
        """Give up the migration that is under way, if there is one.

        :raise Refusal: it cannot be given up any more.
        """
        if self.outgoing is not None:
            self.outgoing.cancel()

    def go_on(self, state: str) -> None:
        """Wait no longer before the machine stops (QMP `migrate-continue`).

        :raise Refusal: the migration is not in this state.
        """
        found = _S.NONE if self.outgoing is None else self.outgoing.state
        if state != found:
            raise Refusal("migration-state", state=str(found))
        if self.outgoing is not None:
            self.outgoing.go_on()

    def start_postcopy(self) -> None:
        """Let the guest go first, and its memory later.

        :raise Refusal: that was not prepared, or there is no migration.
        """
        if not (self.has("postcopy-ram") or self.has("dirty-bitmaps")):
            raise Refusal("postcopy-missing")
        if self.outgoing is None or self.outgoing.state is _S.NONE:
            raise Refusal("postcopy-early")
        if self.outgoing.is_under_way:
            self.outgoing.start_postcopy()

    def pause(self) -> None:
        """Give up the way while memory is copied later.

        :raise VerbRefused: it is not.
        """
        for each in (self.outgoing, self.incoming):
            if each is not None and each.allows("pause"):
                self.machine.later(each.pause)
                return
        raise VerbRefused("pause", str(_S.NONE))

    # Coming

    def begin_to_wait(self) -> None:
        """Wait for a machine, as the command line says (`-incoming`); where that cannot be the process ends."""
        uri = str(self._system.settings.incoming)
        try:
            self._wait(self.ways.way({"uri": uri}, "", incoming=True), exits=True)
        except Refusal as refusal:
            self.machine.report(f"-incoming {uri}: {self.words(refusal)}")
            self.machine.end(1)

    def migrate_incoming(self, arguments: Mapping[str, Any], monitor: str) -> None:
        """Wait for a machine (QMP `migrate-incoming`).

        :raise Refusal: that was not to be, somebody is waited for already, or it cannot be done.
        """
        said = self._system.settings.incoming
        if said is None or (self.course.deferred_alone and said != DEFERRED):
            raise Refusal("incoming-not-said")
        last = self.incoming
        if last is not None and (last.waiting is not None or last.state not in (_S.NONE, _S.SETUP)):
            raise Refusal("incoming-started")
        if not self.course.setup_kept:
            self.machine.emit("MIGRATION", {"status": "setup"})
        if self.course.deferred_alone and arguments.get("uri") == DEFERRED:
            raise Refusal("incoming-deferred")
        way = self.ways.way(arguments, monitor, incoming=True)
        if last is not None and last.state is _S.SETUP:
            raise Refusal("incoming-state", state="setup")
        self._wait(way, exits=bool(arguments.get("exit-on-error", True)))

    def _wait(self, way: Way, *, exits: bool) -> None:
        coming = self.incoming = Incoming(self, exits=exits)
        if self.course.setup_kept:
            coming.enter(_S.SETUP)
        self._listen(coming, way)
        self._system.activities.begin(incoming.NAME, coming, None)

    def _listen(self, coming: Incoming, way: Way) -> None:
        """:raise Refusal: nobody can be waited for there."""
        address = way.address
        if address.get("type") == "fd":
            asker = MonitorAsker(self._system, way.monitor)
            number = asker.descriptor(address["str"])
            addresses.check_descriptor(number, self._system.release.behaviour, self._system.computer, asker)
            way = way._replace(address={**address, "number": number})
        coming.wait_at(self._ways().wait(way, coming.accept))

    def recover(self, uri: str, monitor: str) -> None:
        """Wait for the rest of a machine whose migration was paused.

        :raise Refusal: it was not, or it cannot be waited for there.
        """
        coming = self.incoming
        if coming is None or coming.state is not _S.POSTCOPY_PAUSED:
            raise Refusal("migration-recover")
        if self.course.deferred_alone and coming.is_told_to_recover:
            raise Refusal("migration-recovering")
        coming.is_told_to_recover = True
        if not self.course.setup_kept:
            self.machine.emit("MIGRATION", {"status": "setup"})
        way = self.ways.way({"uri": uri}, monitor, incoming=True)
        coming.stop_waiting()
        coming.is_recovering = True
        self._listen(coming, way)

    @property
    def is_under_way(self) -> bool:
        """Whether the machine is on its way to somewhere else."""
        return self.outgoing is not None and self.outgoing.is_under_way

    def yank(self) -> None:
        """Cut the way to the other side, where it is a socket."""
        if self.outgoing is not None:
            self.outgoing.yank()

    @property
    def is_talking(self) -> bool:
        """Whether something is waited for that the clock has no part in: what goes to or comes from the other side."""
        coming = self.incoming
        if coming is not None and coming.state is _S.ACTIVE and coming.is_read_alone:
            return True
        if coming is not None and coming.state in (_S.NONE, _S.SETUP) and coming.waiting is not None:
            if not coming.addresses:
                return True  # a command, or a file, is to say something
        return self.outgoing is not None and self.outgoing.is_under_way and self.outgoing.waits

    # What is told

    def saved(self) -> None:
        """Its state was saved in a snapshot, which is the latest migration until there is another one."""
        self._saved = self.outgoing, self.size()

    def query(self) -> dict[str, Any]:
        """What `query-migrate` tells."""
        if self._saved is not None and self._saved[0] is self.outgoing:
            return figures.of_saved(self._saved[1], self.course)
        if self.outgoing is not None and self.outgoing.state is not _S.NONE:
            return figures.of_outgoing(self.outgoing, self)
        if self.incoming is not None:
            return figures.of_incoming(self.incoming, self)
        return {}

    # Settings

    @property
    def parameters(self) -> dict[str, Any]:
        """The release's parameters, with what was set since."""
        settings = self._system.migration
        return {**self.usual, **({} if settings is None else settings.parameters)}

    def set_parameters(self, wanted: Mapping[str, Any]) -> None:
        """Set parameters, all of them or none.

        :raise Worded: a value is out of its bounds.
        """
        self._system.migration_settings.set_parameters(wanted, self._system.release.migration, self.usual)
        if self.outgoing is not None:
            self.outgoing.limits_changed()

    def set_capabilities(self, wanted: Mapping[str, bool]) -> None:
        """Set capabilities, all of them or none.

        :raise Refusal: one does not go with what is set then, or a migration is under way.
        """
        if self.outgoing is not None and self.outgoing.is_under_way:
            raise Refusal("migration-active")
        if self.course.preset and self.incoming is not None:
            if wanted.get("multifd") and not self.has("multifd"):
                raise Refusal("migration-preset-multifd")
            if wanted.get("postcopy-preempt") and not self.has("postcopy-preempt"):
                raise Refusal("migration-preset-postcopy-preempt")
        self._system.migration_settings.set_capabilities(wanted, self._system.release.migration, self.usual)

    def shut_down(self) -> None:
        """The machine ends."""
        if self.outgoing is not None:
            self.outgoing.shut_down()
        if self.incoming is not None:
            self.incoming.shut_down()


