"""The virtual guest's course, its buttons and its devices."""

from __future__ import annotations

import pytest

from qmpd.machine import (
    Device,
    Firmware,
    GuestAction,
    GuestSettings,
    GuestWakeup,
    MachineError,
    PanicAction,
    ShutdownAction,
    WakeupReason,
    WatchdogAction,
)
from tests.machine.conftest import MILLISECOND, SECOND, Build

MINUTE = 60 * SECOND


def test_firmware_adds_a_reset_25_to_45_ms_later(bench: Build) -> None:
    vm = bench()
    vm.advance(SECOND)
    vm.take()
    vm.machine.system_reset()
    vm.turns()
    first = vm.clock.monotonic_nanoseconds()
    vm.advance(SECOND)
    assert vm.data == [
        {"guest": False, "reason": "host-qmp-system-reset"},
        {"guest": True, "reason": "guest-reset"},
    ]
    assert 25 * MILLISECOND <= vm.times[1] - first <= 45 * MILLISECOND


def test_firmware_that_has_not_run_yet_adds_none(bench: Build) -> None:
    vm = bench()
    vm.advance(5 * MILLISECOND)
    vm.take()
    vm.machine.system_reset()
    vm.turns()
    vm.advance(SECOND)
    assert vm.take() == ["RESET"]


def test_a_reset_during_the_firmwares_own_is_completed_once(bench: Build) -> None:
    vm = bench()
    vm.advance(SECOND)
    vm.take()
    for _ in range(3):
        vm.machine.system_reset()
        vm.turns()
        vm.advance(20 * MILLISECOND)
    vm.advance(SECOND)
    assert vm.take() == ["RESET"] * 4


@pytest.mark.parametrize("firmware", [Firmware.ONCE, Firmware.NONE])
def test_firmware_that_resets_once_or_is_none(bench: Build, firmware: Firmware) -> None:
    vm = bench(guest=GuestSettings(firmware=firmware))
    vm.advance(SECOND)
    vm.take()
    vm.machine.system_reset()
    vm.turns()
    vm.advance(SECOND)
    assert vm.take() == ["RESET"]


def test_second_reset_waits_for_the_vcpu(bench: Build) -> None:
    vm = bench()
    vm.advance(SECOND)
    vm.machine.system_reset()
    vm.turns()
    vm.advance(20 * MILLISECOND)
    vm.machine.stop()
    vm.take()
    assert vm.machine.next_deadline() is None
    vm.advance(MINUTE)
    assert vm.take() == []
    vm.machine.cont()
    assert vm.machine.next_deadline() == vm.clock.monotonic_nanoseconds() + 15 * MILLISECOND
    vm.advance(SECOND)
    assert vm.take() == ["RESUME", "RESET"]


def test_a_guest_of_firmware_alone_ignores_the_power_button(bench: Build) -> None:
    vm = bench()
    vm.advance(SECOND)
    vm.machine.system_powerdown()
    vm.turns()
    vm.advance(MINUTE)
    assert vm.take() == ["RESUME", "POWERDOWN"]


def test_shutdown_after_ninety_seconds(bench: Build) -> None:
    vm = bench(guest=GuestSettings(boot_time=10 * MINUTE, powerdown_delay=90 * SECOND))
    vm.advance(11 * MINUTE)
    vm.machine.system_powerdown()
    vm.turns()
    pressed = vm.clock.monotonic_nanoseconds()
    vm.machine.system_powerdown()
    vm.turns()
    vm.advance(5 * MINUTE)
    assert vm.times[-1] - pressed == 90 * SECOND
    assert vm.take() == ["RESUME", "POWERDOWN", "POWERDOWN", "SHUTDOWN"]
    assert vm.exit_status == 0


def test_power_button_is_lost_on_a_guest_that_boots(bench: Build) -> None:
    vm = bench(guest=GuestSettings(boot_time=10 * SECOND))
    vm.advance(SECOND)
    vm.machine.system_powerdown()
    vm.turns()
    vm.advance(MINUTE)
    assert vm.exit_status is None


def test_power_button_of_a_paused_guest_is_heeded_when_it_runs(bench: Build) -> None:
    vm = bench(guest=GuestSettings(powerdown_delay=SECOND))
    vm.advance(SECOND)
    vm.machine.stop()
    vm.machine.system_powerdown()
    vm.turns()
    vm.advance(MINUTE)
    assert vm.exit_status is None
    vm.machine.cont()
    vm.advance(2 * SECOND)
    assert vm.exit_status == 0


@pytest.mark.parametrize(
    ("action", "events"),
    [
        (GuestAction.NONE, []),
        (GuestAction.REBOOT, ["RESET", "RESET"]),
        (GuestAction.SUSPEND, ["SUSPEND"]),
        (GuestAction.HIBERNATE, ["SUSPEND_DISK", "SHUTDOWN"]),
        (GuestAction.PANIC, ["GUEST_PANICKED", "SHUTDOWN"]),
        (GuestAction.HALT, []),
    ],
)
def test_what_the_power_button_does(bench: Build, action: GuestAction, events: list[str]) -> None:
    vm = bench(guest=GuestSettings(on_powerdown=action), devices=[Device(driver="pvpanic")])
    vm.advance(SECOND)
    vm.take()
    vm.machine.system_powerdown()
    vm.turns()
    vm.advance(SECOND)
    assert vm.take() == ["POWERDOWN", *events]


def test_settings_change_while_the_guest_runs(bench: Build) -> None:
    settings = GuestSettings()
    vm = bench(guest=settings)
    vm.advance(SECOND)
    vm.guest.configure(on_powerdown=GuestAction.NONE)
    vm.machine.system_powerdown()
    vm.turns()
    vm.advance(MINUTE)
    assert vm.exit_status is None
    assert settings.on_powerdown is None
    with pytest.raises(TypeError):
        vm.guest.configure(bogus=1)


def test_a_suspended_guest_resumes_where_it_slept(bench: Build) -> None:
    vm = bench(guest=GuestSettings())
    vm.advance(SECOND)
    vm.guest.suspend()
    vm.turns()
    vm.advance(SECOND)
    vm.take()
    vm.machine.system_wakeup()
    assert vm.machine.state == "running"
    vm.turns()
    vm.advance(SECOND)
    assert (vm.take(), vm.guest.phase) == (["WAKEUP"], "running")


def test_a_suspended_guest_without_a_way_back_is_reset(bench: Build) -> None:
    vm = bench(guest=GuestSettings(on_wakeup=GuestWakeup.REBOOT))
    vm.advance(SECOND)
    vm.guest.suspend()
    vm.turns()
    vm.take()
    vm.guest.wake(WakeupReason.PMTIMER)
    vm.turns()
    vm.advance(SECOND)
    assert (vm.take(), vm.guest.phase) == (["WAKEUP", "RESET"], "running")


@pytest.mark.parametrize(("release", "events"), [("7.2", []), ("10.0", ["STOP", "RESUME"])])
def test_stop_and_cont_of_a_suspended_guest(bench: Build, release: str, events: list[str]) -> None:
    vm = bench(release, guest=GuestSettings())
    vm.advance(SECOND)
    vm.guest.suspend()
    vm.turns()
    vm.take()
    vm.machine.stop()
    assert vm.machine.state == ("paused" if events else "suspended")
    vm.machine.cont()
    assert (vm.take(), vm.machine.state) == (events, "suspended")


def test_the_guests_alarm_wakes_it(bench: Build) -> None:
    vm = bench(guest=GuestSettings(on_powerdown=GuestAction.SUSPEND, sleep_time=30 * SECOND))
    vm.advance(SECOND)
    vm.machine.system_powerdown()
    vm.turns()
    vm.advance(29 * SECOND)
    assert vm.machine.state == "suspended"
    vm.advance(2 * SECOND)
    assert (vm.take(), vm.machine.state) == (["RESUME", "POWERDOWN", "SUSPEND", "WAKEUP"], "running")


def test_a_stopped_guest_is_not_woken_by_its_alarm(bench: Build) -> None:
    vm = bench("10.0", guest=GuestSettings(sleep_time=SECOND))
    vm.advance(SECOND)
    vm.guest.suspend()
    vm.turns()
    vm.machine.stop()
    vm.advance(MINUTE)
    assert vm.machine.state == "paused"


@pytest.mark.parametrize(("release", "told"), [("5.2", ["pause", "poweroff"]), ("7.2", ["poweroff"])])
def test_panic_that_powers_off(bench: Build, release: str, told: list[str]) -> None:
    vm = bench(release, guest=GuestSettings(), devices=[Device(driver="pvpanic")])
    vm.advance(SECOND)
    vm.guest.panic({"type": "hyper-v", "arg1": 1})
    vm.turns()
    panics = [data for name, data in zip(vm.events, vm.data, strict=True) if name == "GUEST_PANICKED"]
    assert panics == [{"action": action, "info": {"type": "hyper-v", "arg1": 1}} for action in told]
    assert (vm.events[-1], vm.exit_status) == ("SHUTDOWN", 0)


def test_panic_that_fails(bench: Build) -> None:
    vm = bench(guest=GuestSettings(), devices=[Device(driver="pvpanic")], panic=PanicAction.EXIT_FAILURE)
    vm.advance(SECOND)
    vm.guest.panic()
    vm.turns()
    assert vm.exit_status == 1


@pytest.mark.parametrize(
    "action", [GuestAction.PANIC, GuestAction.CRASH_LOAD, GuestAction.WATCHDOG, GuestAction.DEBUG_EXIT]
)
def test_without_its_device_an_action_is_refused_and_a_guests_has_no_effect(bench: Build, action: GuestAction) -> None:
    vm = bench(guest=GuestSettings(on_boot=action))
    vm.advance(SECOND)
    assert vm.take() == ["RESUME"]
    with pytest.raises(MachineError, match="takes a device"):
        vm.guest.act(action)


@pytest.mark.parametrize("action", list(GuestAction))
def test_a_stopped_guest_does_nothing(bench: Build, action: GuestAction) -> None:
    vm = bench(guest=GuestSettings())
    vm.advance(SECOND)
    vm.machine.stop()
    with pytest.raises(MachineError, match="the guest does not run"):
        vm.guest.act(action)


def test_nmi_makes_the_guest_panic(bench: Build) -> None:
    vm = bench(guest=GuestSettings(on_nmi=GuestAction.PANIC), devices=[Device(driver="pvpanic")])
    vm.advance(SECOND)
    vm.take()
    vm.machine.inject_nmi()
    vm.advance(0)
    assert vm.take() == ["GUEST_PANICKED", "SHUTDOWN"]


def test_watchdogs_nmi_reaches_the_guest(bench: Build) -> None:
    vm = bench(
        guest=GuestSettings(on_nmi=GuestAction.REBOOT, firmware=Firmware.ONCE),
        devices=[Device(driver="i6300esb")],
        watchdog=WatchdogAction.INJECT_NMI,
    )
    vm.advance(SECOND)
    vm.take()
    vm.guest.watchdog_expire()
    vm.advance(0)
    assert vm.take() == ["WATCHDOG", "RESET"]


def test_watchdog_debug_is_reported(bench: Build) -> None:
    vm = bench(guest=GuestSettings(), devices=[Device(driver="ib700")], watchdog=WatchdogAction.DEBUG)
    vm.advance(SECOND)
    vm.guest.watchdog_expire()
    assert vm.reports == ["watchdog: timer fired"]


def test_debug_exit_under_no_shutdown_keeps_its_status_for_the_end(bench: Build) -> None:
    """As 10.0 and 11.1 do: SHUTDOWN and STOP, and a later quit ends with the guest's status."""
    vm = bench("10.0", guest=GuestSettings(), devices=[Device(driver="isa-debug-exit")], shutdown=ShutdownAction.PAUSE)
    vm.advance(SECOND)
    vm.take()
    vm.guest.debug_exit(5)
    vm.turns()
    assert (vm.take(), vm.machine.state) == (["SHUTDOWN", "STOP"], "shutdown")
    vm.machine.quit()
    vm.turns()
    assert vm.exit_status == 11


def test_debug_exit_of_older_releases_ends_at_once(bench: Build) -> None:
    vm = bench("7.2", guest=GuestSettings(), devices=[Device(driver="isa-debug-exit")], shutdown=ShutdownAction.PAUSE)
    vm.advance(SECOND)
    vm.take()
    vm.guest.debug_exit(255)
    vm.turns()
    assert (vm.take(), vm.exit_status) == ([], 255)


def test_internal_error_needs_a_reset(bench: Build) -> None:
    vm = bench(guest=GuestSettings())
    vm.advance(SECOND)
    vm.take()
    vm.guest.internal_error()
    vm.turns()
    assert (vm.take(), vm.machine.state) == (["STOP"], "internal-error")
    with pytest.raises(MachineError, match="Resetting"):
        vm.machine.cont()
    vm.machine.system_reset()
    vm.turns()
    vm.machine.cont()
    vm.advance(SECOND)
    assert vm.take() == ["RESET", "RESUME", "RESET"]


@pytest.mark.parametrize(("action", "state"), [("stop", "io-error"), ("report", "running"), ("ignore", "running")])
def test_io_error(bench: Build, action: str, state: str) -> None:
    vm = bench(guest=GuestSettings())
    vm.take()
    stop = ["STOP"] if action == "stop" else []
    error = {"device": "ide0-hd0", "operation": "write", "action": action, "nospace": True, "reason": "No space left"}
    vm.guest.io_error(error)
    assert vm.data == [error]
    vm.turns()
    assert (vm.take(), vm.machine.state) == (["BLOCK_IO_ERROR", *stop], state)
    vm.machine.cont()
    assert vm.machine.state == "running"


def test_proceed_makes_the_next_step_due(bench: Build) -> None:
    vm = bench(guest=GuestSettings(boot_time=10 * MINUTE))
    phases = []
    for _ in range(3):
        vm.guest.proceed()
        vm.advance(0)
        phases.append(str(vm.guest.phase))
    assert phases == ["firmware", "booting", "running"]
    with pytest.raises(MachineError, match="waits for nothing"):
        vm.guest.proceed()


def test_query(bench: Build) -> None:
    vm = bench(guest=GuestSettings(boot_time=SECOND))
    vm.advance(100 * MILLISECOND)
    assert vm.guest.query() == {
        "phase": "booting",
        "firmware-has-run": True,
        "steps": {"booted": 960 * MILLISECOND},
    }


def test_machine_none_has_no_guest(bench: Build) -> None:
    vm = bench(machine_type="none", guest=GuestSettings())
    assert vm.machine.guest is None
    assert vm.machine.next_deadline() is None
    vm.machine.run_timers()
    with pytest.raises(MachineError, match="not currently supported"):
        vm.machine.inject_nmi()
    with pytest.raises(MachineError, match="not supported by this guest"):
        vm.machine.system_wakeup()
