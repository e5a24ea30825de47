"""Whatever is done to a machine, in whatever order: its run state changes only as the table allows.

`Machine.set_state` raises for anything else, so that a rule which gets there fails the run.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from qmpd.guest.making import make_machine
from qmpd.machine import (
    Device,
    Event,
    Firmware,
    GuestAction,
    GuestSettings,
    GuestUnplug,
    GuestWakeup,
    Machine,
    MachineError,
    MachineSettings,
    PanicAction,
    RebootAction,
    RunState,
    ShutdownAction,
    ShutdownCause,
    VirtualClock,
    WakeupReason,
    WatchdogAction,
    main_loop,
    snapshot,
    transitions,
)
from qmpd.qapi import Behaviour, load_release
from tests.machine.conftest import MILLISECOND, SECOND

BEHAVIOURS = [load_release(name).behaviour for name in ("5.2", "7.2", "10.0", "11.1")]
BEHAVIOURS.append(Behaviour(**{**vars(BEHAVIOURS[1]), "events_carry_cause": False, "reset_keeps_state": True}))
DEVICES = ["pvpanic", "ib700", "i6300esb", "isa-debug-exit"]
TIMES = st.sampled_from([0, MILLISECOND, 20 * MILLISECOND, SECOND])
STOPS = [RunState.WATCHDOG, RunState.GUEST_PANICKED, RunState.IO_ERROR, RunState.INTERNAL_ERROR, RunState.DEBUG]

guests = st.builds(
    GuestSettings,
    firmware=st.sampled_from(Firmware),
    firmware_resets=st.none() | st.tuples(st.integers(0, 2), st.integers(2, 3)),
    operating_system=st.booleans(),
    boot_time=TIMES,
    on_boot=st.sampled_from(GuestAction),
    on_powerdown=st.none() | st.sampled_from(GuestAction),
    powerdown_delay=TIMES,
    on_sleep=st.none() | st.sampled_from(GuestAction),
    on_nmi=st.sampled_from(GuestAction),
    on_wakeup=st.none() | st.sampled_from(GuestWakeup),
    sleep_time=st.none() | TIMES,
    debug_exit_value=st.integers(0, 255),
    on_unplug=st.none() | st.sampled_from(GuestUnplug),
    unplug_delay=TIMES,
    balloon=st.none() | st.booleans(),
    balloon_delay=TIMES,
)
machines = st.builds(
    MachineSettings,
    machine_type=st.sampled_from(["none", "pc", "pc"]),
    start_paused=st.booleans(),
    preconfig=st.sampled_from([False, False, False, True]),
    incoming=st.sampled_from([None, None, None, "defer"]),
    reboot=st.sampled_from(RebootAction),
    shutdown=st.sampled_from(ShutdownAction),
    panic=st.sampled_from(PanicAction),
    watchdog=st.sampled_from(WatchdogAction),
    reboot_reset=st.booleans(),
    guest=st.none() | guests,
    devices=st.lists(st.sampled_from(DEVICES), unique=True).map(lambda names: [Device(driver=name) for name in names]),
)


class RandomOperations(RuleBasedStateMachine):
    machine: Machine

    @initialize(settings=machines, behaviour=st.sampled_from(BEHAVIOURS))
    def begin(self, settings: MachineSettings, behaviour: Any) -> None:
        self.clock = VirtualClock()
        self.events: list[str] = []
        self.status: int | None = None
        self.settings, self.behaviour = settings, behaviour
        self.machine, self.guest = make_machine(settings, behaviour, self.clock, self.emitted, lambda: None)
        self.machine.start()

    def emitted(self, event: Event) -> None:
        self.events.append(event.name)
        assert event.timestamp == self.clock.wall_microseconds()

    def attempt(self, operation: Any, *arguments: Any) -> None:
        """Do it; a refusal changes nothing."""
        before = snapshot.take(self.machine)
        try:
            operation(*arguments)
        except MachineError:
            assert snapshot.take(self.machine) == before

    @rule()
    def turn(self) -> None:
        status = main_loop.turn(self.machine)
        assert self.status is None or status == self.status
        self.status = status

    @rule()
    def turns(self) -> None:
        for _ in range(4):
            if not self.machine.pending:
                return
            self.turn()
        assert not self.machine.pending or self.status is not None

    @rule(nanoseconds=st.sampled_from([0, MILLISECOND, 35 * MILLISECOND, 60 * MILLISECOND, SECOND, 5 * SECOND]))
    def time_passes(self, nanoseconds: int) -> None:
        self.clock.advance(nanoseconds)
        self.machine.run_timers()
        deadline = self.machine.next_deadline()
        assert deadline is None or deadline > self.clock.monotonic_nanoseconds()

    @rule(name=st.sampled_from(["stop", "cont", "system_powerdown", "system_wakeup", "inject_nmi", "exit_preconfig"]))
    def command(self, name: str) -> None:
        self.attempt(getattr(self.machine, name))

    @rule(name=st.sampled_from(["system_sleep", "system_suspend", "system_debug"]))
    def request(self, name: str) -> None:
        self.attempt(getattr(self.machine, name))

    @rule(cause=st.sampled_from(ShutdownCause))
    def reset(self, cause: ShutdownCause) -> None:
        self.attempt(self.machine.system_reset, cause)

    @rule(cause=st.sampled_from(ShutdownCause))
    def shutdown(self, cause: ShutdownCause) -> None:
        self.attempt(self.machine.system_shutdown, cause)

    @rule(reason=st.sampled_from(WakeupReason))
    def wakeup(self, reason: WakeupReason) -> None:
        self.attempt(self.machine.system_wakeup, reason)

    @rule(state=st.sampled_from(STOPS))
    def vmstop(self, state: RunState) -> None:
        self.attempt(self.machine.system_vmstop, state)

    @rule(
        reboot=st.none() | st.sampled_from(RebootAction),
        shutdown=st.none() | st.sampled_from(ShutdownAction),
        panic=st.none() | st.sampled_from(PanicAction),
        watchdog=st.none() | st.sampled_from(WatchdogAction),
    )
    def set_action(
        self,
        reboot: RebootAction | None,
        shutdown: ShutdownAction | None,
        panic: PanicAction | None,
        watchdog: WatchdogAction | None,
    ) -> None:
        self.machine.set_action(reboot=reboot, shutdown=shutdown, panic=panic, watchdog=watchdog)

    @rule(number=st.sampled_from([1, 2, 15]))
    def signal(self, number: int) -> None:
        self.machine.request_shutdown_by_signal(number)

    @rule(action=st.sampled_from(GuestAction))
    def guest_acts(self, action: GuestAction) -> None:
        if self.guest is not None:
            self.attempt(self.guest.act, action)

    @rule(name=st.sampled_from(["panic", "crash_load", "proceed", "wake"]))
    def guest_does(self, name: str) -> None:
        if self.guest is not None:
            self.attempt(getattr(self.guest, name))

    @rule(action=st.sampled_from(["stop", "report", "ignore"]))
    def guest_meets_an_io_error(self, action: str) -> None:
        if self.guest is not None:
            self.guest.io_error({"device": "ide0-hd0", "action": action})

    @rule(guest=guests)
    def guest_changes(self, guest: GuestSettings) -> None:
        if self.guest is not None:
            self.guest.settings = guest

    @rule()
    def is_taken_over(self) -> None:
        """By a machine made of its state, which is as plain as JSON."""
        state = snapshot.take(self.machine)
        handed_over = json.loads(json.dumps(state))
        self.machine, self.guest = make_machine(
            self.settings, self.behaviour, self.clock, self.emitted, lambda: None
        )
        snapshot.put(self.machine, handed_over)
        assert snapshot.take(self.machine) == state

    @invariant()
    def state_is_one_of_the_releases(self) -> None:
        if hasattr(self, "machine"):
            machine = self.machine
            assert machine.state in transitions(self.behaviour)
            if machine.state != "running":
                assert machine.guest is None or machine.state == "suspended" or machine.next_deadline() is None

    @invariant()
    def what_has_stopped_is_resumed_before_it_stops_again(self) -> None:
        if hasattr(self, "machine"):
            told = [name for name in self.events if name in ("STOP", "RESUME")]
            assert ("STOP", "STOP") not in itertools.pairwise(told)


TestRandomOperations = RandomOperations.TestCase
TestRandomOperations.settings = hypothesis_settings(max_examples=100, stateful_step_count=40, deadline=None)
