"""What is pending in one turn of the main loop: signals, timers, guests and commands that come while it cannot look.

A process is stopped, everything is sent to it, and it goes on: real QEMU, where it is installed, and qmpd.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import ExitStack

import pytest

from qmpd.capture import guests
from tests.clients.beside import NONE, PATIENCE, RELEASES, kinds, running

PC = ("-machine", "pc", "-display", "none", "-nodefaults", "-m", "32", "-device", "ib700", "-no-shutdown")
# The watchdog ib700 expires two seconds after it was set to this.
WATCHDOG = guests.write_byte(0x443, 0x0E)
EXPIRED = 2.2


def until_shutdown(heard: list[str]) -> list[str]:
    """Real QEMU may still execute a command or two while it ends, and sometimes does."""
    return heard[: heard.index("SHUTDOWN host-signal") + 1] if "SHUTDOWN host-signal" in heard else heard


# --- commands and signals


@pytest.mark.parametrize(("release", "number"), [*((release, 15) for release in RELEASES), ("7.2", 1), ("7.2", 2)])
def test_a_signal_goes_before_the_commands_that_wait(release: str, number: int) -> None:
    for real in kinds(release):
        with running(release, real=real, options=NONE) as side:
            side.stop()
            side.send("system_powerdown", "system_reset", "stop")
            os.kill(side.pid, number)
            heard = side.go_on()
            assert (until_shutdown(heard) if real else heard) == ["SHUTDOWN host-signal"], real
            assert side.report().startswith(f"terminating on signal {number} from pid {os.getpid()} (")


def test_a_quit_that_waits_is_not_what_ends_it() -> None:
    for real in kinds("7.2"):
        with running("7.2", real=real, options=(*NONE, "-no-shutdown")) as side:
            side.stop()
            os.kill(side.pid, signal.SIGTERM)
            side.send("quit")
            heard = side.go_on()
            assert (until_shutdown(heard) if real else heard) == ["SHUTDOWN host-signal"], real
            side.process.wait(PATIENCE)


def test_commands_of_several_clients_wait_behind_a_signal() -> None:
    with running("7.2", real=False, options=NONE) as side:
        side.stop()
        side.send(*["query-status"] * 600)
        os.kill(side.pid, signal.SIGTERM)
        assert side.go_on() == ["SHUTDOWN host-signal"]


# --- who sent a signal


@pytest.mark.parametrize(
    ("release", "numbers"), [*((release, (15, 1)) for release in RELEASES), ("7.2", (1, 15)), ("7.2", (2, 1, 15))]
)
def test_of_signals_that_come_together_the_lowest_number_is_reported(release: str, numbers: tuple[int, ...]) -> None:
    for real in kinds(release):
        with running(release, real=real, options=NONE) as side:
            side.stop()
            for number in numbers:
                os.kill(side.pid, number)
            assert side.go_on() == ["SHUTDOWN host-signal"]
            assert side.report().startswith(f"terminating on signal {min(numbers)} from pid {os.getpid()} (")


def sender(pid: int, name: bytes, rest: str = "") -> subprocess.Popen[bytes]:
    """A process that is called `name` and sends a signal; then it does `rest`."""
    process = subprocess.Popen(
        [name, b"-c", f"kill -TERM {pid}; echo; {rest}".encode()], executable="/bin/sh", stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.read(1)
    return process


@pytest.mark.parametrize("name", [b"sh", b"/usr/bin/a stop service (really)", b"caf\xc3\xa9 \xff", b"--"])
def test_the_report_names_a_sender_as_it_was_called(name: bytes) -> None:
    for real in kinds("7.2"):
        with running("7.2", real=real, options=NONE) as side:
            side.stop()
            with sender(side.pid, name, "sleep 20 & wait") as process:
                side.go_on()
                report = side.report()
                process.kill()
                assert process.stdout is not None
            text = f"terminating on signal 15 from pid {process.pid} ({os.fsdecode(name)})"
            assert report == text, real


def test_the_report_of_a_sender_that_has_ended() -> None:
    """Its name is empty until its parent has asked how it ended; then nobody knows it."""
    for real in kinds("7.2"):
        for asked, name in ((False, ""), (True, "<unknown process>")):
            with running("7.2", real=real, options=NONE) as side:
                side.stop()
                process = sender(side.pid, b"gone")
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                if asked:
                    process.wait()
                side.go_on()
                assert side.report() == f"terminating on signal 15 from pid {process.pid} ({name})", real
                process.communicate()


# --- timers

EXPIRIES: dict[str, tuple[tuple[str, ...], tuple[int, ...], list[str]]] = {
    "nothing else": ((), (), ["WATCHDOG", "STOP"]),
    "commands": (("system_powerdown", "stop", "query-status"), (), ["WATCHDOG", "STOP", "POWERDOWN", "ok", "ok", "ok"]),
    "a signal": ((), (15,), ["WATCHDOG", "SHUTDOWN host-signal"]),
    "commands and a signal": (("system_powerdown", "cont"), (1,), ["WATCHDOG", "SHUTDOWN host-signal"]),
}


def test_a_timer_that_is_due_goes_before_commands_and_after_signals() -> None:
    """The watchdog pauses the machine: what it says, then the turn (with the signal's shutdown), then the commands."""
    release = "7.2"
    options = (*PC, "-watchdog-action", "pause")
    with ExitStack() as stack:
        sides = []
        for case, (commands, numbers, _) in EXPIRIES.items():
            for real in kinds(release):
                own = "-guest firmware=none,on-boot=watchdog,boot-time=2s"
                side = stack.enter_context(running(release, real=real, options=options, action=WATCHDOG, own=own))
                if real:
                    assert side.process.stdout is not None
                    assert side.process.stdout.read(1) == b"B"
                side.stop()
                side.send(*commands)
                for number in numbers:
                    os.kill(side.pid, number)
                sides.append((case, real, side))
        time.sleep(EXPIRED)
        for case, real, side in sides:
            heard = side.go_on()
            assert (until_shutdown(heard) if real else heard) == EXPIRIES[case][2], (case, real)


# --- the silent reset of a wakeup

TRAYS = ("-device", "virtio-scsi-pci", "-device", "scsi-cd,id=cd", "-device", "e1000,id=nic")


@pytest.mark.parametrize("release", RELEASES)
def test_a_wakeup_resets_the_devices(release: str) -> None:
    """The network card that was to go is gone and the tray is closed, after everything that was in one write."""
    for real in kinds(release):
        own = "-guest on-boot=suspend"
        with running(release, real=real, options=(*PC, *TRAYS), action=guests.SUSPEND, own=own) as side:
            side.until("SUSPEND")
            side.send(("blockdev-open-tray", {"id": "cd"}), ("device_del", {"id": "nic"}))
            assert [side.line() for _ in range(3)] == ["DEVICE_TRAY_MOVED", "ok", "ok"]
            side.stop()
            side.send("system_wakeup", "stop", ("blockdev-close-tray", {"id": "cd"}))
            heard = side.go_on()
            first = ["ok", "WAKEUP"] if release == "5.2" else ["WAKEUP", "ok"]
            if real:
                # A thread of its own tells of what is gone: most often, but not always, after all else.
                heard.sort(key="DEVICE_DELETED".__eq__)
            assert heard == [*first, "STOP", "ok", "ok", "DEVICE_DELETED"], real
            side.send(("device_del", {"id": "nic"}))
            assert side.line() == "error"
