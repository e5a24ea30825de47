"""A twin is found in the run state that its VM was in, and goes on from there as that does: real QEMU, and qmpd."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from qmpd.capture import guests
from qmpd.cli.control import main as control
from qmpd.cli.main import main
from qmpd.cli.serve import parse
from qmpd.guest.phases import GuestPhase
from qmpd.option_language.errors import OptionError
from qmpd.qapi import load_release
from qmpd.qapi.twin import Twin
from tests.clients.beside import Client, Side, kinds, running
from tests.clients.programs import serving
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

RELEASE = "7.2"
PC = ("-machine", "pc", "-display", "none", "-nodefaults", "-m", "32", "-no-shutdown")
POWER_OFF = guests.write_word(0x604, 0x2000)
# ib700 expires at once.
WATCHDOG = guests.write_byte(0x443, 0x0F)
HOT_PLUG = ("device_add", {"driver": "e1000", "id": "nic"})


class Situation(NamedTuple):
    """How a VM comes to be in a run state: options, what its guest does, the event to wait for, commands."""

    state: str
    options: tuple[str, ...] = ()
    action: bytes | None = None
    own: str = ""
    event: str | None = None
    commands: tuple[Any, ...] = ()


SITUATIONS: dict[str, Situation] = {
    "prelaunch": Situation("prelaunch", ("-S",)),
    "prelaunch, hot plug": Situation("prelaunch", ("-S",), commands=(HOT_PLUG,)),
    "paused": Situation("paused", commands=("stop",)),
    "paused, hot plug": Situation("paused", commands=(HOT_PLUG, "stop")),
    "waiting": Situation("inmigrate", ("-incoming", "defer")),
    "sleeping": Situation("suspended", (), guests.SUSPEND, "-guest on-boot=suspend", "SUSPEND"),
    "sleeping, hot plug": Situation(
        "suspended", (), guests.SUSPEND, "-guest on-boot=suspend", "SUSPEND", (HOT_PLUG, ("device_del", {"id": "nic"}))
    ),
    "shut down": Situation("shutdown", (), POWER_OFF, "-guest on-boot=shutdown", "STOP"),
    "panicked": Situation(
        "guest-panicked", ("-device", "pvpanic", "-action", "panic=pause"), guests.PANIC, "-guest on-boot=panic", "STOP"
    ),
    "watchdog": Situation(
        "watchdog", ("-device", "ib700", "-watchdog-action", "pause"), WATCHDOG, "-guest on-boot=watchdog", "STOP"
    ),
}
SEQUENCE = (
    "query-status", "system_wakeup", "query-status", "cont", "query-status", "stop", "query-status", "system_reset",
    "query-status", "cont", "query-status", "stop",
)  # fmt: skip


def capture(address: str | bytes, path: Path) -> None:
    """What `qmpd capture --socket` does; the address may be one that is no path."""
    name = address.decode() if isinstance(address, bytes) else address
    assert main(["capture", "--socket", name, "-o", str(path)]) == 0


def answers(client: Client) -> list[Any]:
    """What a client hears when it sends the sequence; it is in one write, so that the guest gets nowhere meanwhile."""
    client.send(*SEQUENCE)
    heard: list[Any] = []
    while sum("event" not in each for each in heard) < len(SEQUENCE):
        message = client.message()
        assert message is not None
        message.pop("timestamp", None)
        # Of what is plugged in the twin knows no more than how it answered.
        if message.get("event") != "DEVICE_DELETED":
            heard.append(message)
    return heard


def bring(side: Side, situation: Situation) -> None:
    """Let a VM get into its situation."""
    if situation.event is not None:
        side.until(situation.event)
    for request in situation.commands:
        side.send(request)
        side.until("ok")


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_twin_goes_on_as_its_vm_does(tmp_path: Path, name: str) -> None:
    situation = SITUATIONS[name]
    for real in kinds(RELEASE):
        with running(
            RELEASE, real=real, options=(*PC, *situation.options), action=situation.action, own=situation.own
        ) as side:
            bring(side, situation)
            side.client.close()
            path = tmp_path / f"{real}.twin"
            capture(side.address, path)
            assert Twin(path, load_release).facts.status == situation.state
            with serving(tmp_path / "twin.sock", "--twin", str(path)) as server:
                server.connect().close()
                original, twin = Client(side.address), Client(str(server.path))
                try:
                    assert answers(twin) == answers(original), real
                finally:
                    original.close()
                    twin.close()


@pytest.mark.parametrize(
    ("action", "state", "refused"),
    [("guest-internal-error", "internal-error", True), ("guest-io-error device=d", "io-error", False)],
)
def test_a_twin_of_a_vm_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str, state: str, refused: bool
) -> None:
    puppet = tmp_path / "control.sock"
    with serving(tmp_path / "vm.sock", "-machine", "pc", "-control", f"unix:{puppet}") as server:
        wait_until(lambda: control([str(puppet), *action.split()]) == 0)
        capture(str(server.path), tmp_path / "vm.twin")
    with serving(tmp_path / "twin.sock", "--twin", str(tmp_path / "vm.twin")) as server:
        twin = Client(str(server.path))
        twin.send("query-status")
        message = twin.message()
        assert message is not None
        assert message["return"]["status"] == state
        for request in ("cont", "system_reset"):
            twin.send(request)
            while "event" in (message := twin.message() or {}):
                pass
            assert ("error" in message) is (refused and request == "cont")
        twin.close()


def test_a_sleeping_twin_wakes(tmp_path: Path) -> None:
    """It sleeps in its firmware's way back: it is woken, runs, and heeds its power button."""
    facts = _twin(tmp_path, "suspended")
    with serving(tmp_path / "twin.sock", "--twin", str(facts), "-control", f"unix:{tmp_path}/c.sock") as server:
        twin = Client(str(server.path))
        twin.send("system_wakeup")
        twin.until("WAKEUP")
        twin.until("ok")
        wait_until(lambda: _phase(tmp_path / "c.sock") == GuestPhase.RUNNING)
        twin.send("system_powerdown")
        twin.until("SHUTDOWN guest-shutdown")
        twin.close()


def _phase(path: Path) -> object:
    client = Client(str(path))
    try:
        client.send("query-guest")
        message = client.message()
        assert message is not None
        return message["return"]["phase"]
    finally:
        client.close()


def _twin(folder: Path, status: str) -> Path:
    """A twin's file of a VM that was in this run state."""
    import zipfile

    path = folder / f"{status}.twin"
    with serving(folder / "original.sock", "-machine", "pc", "-S") as server:
        capture(str(server.path), folder / "original.twin")
    with zipfile.ZipFile(folder / "original.twin") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "twin.json":
                content = json.dumps({**json.loads(content), "status": status}).encode()
            new.writestr(name, content)
    return path


def test_options_say_how_a_twin_starts(tmp_path: Path) -> None:
    path = str(_twin(tmp_path, "paused"))

    def found(*options: str) -> tuple[str | None, bool, str | None]:
        parsed = parse(["--twin", path, *options])
        assert parsed is not None
        machine = parsed[0].machine
        return machine.run_state, machine.start_paused, machine.incoming

    assert found() == ("paused", False, None)
    assert found("-S") == (None, True, None)
    assert found("-incoming", "defer") == (None, False, "defer")


def test_a_twin_in_a_state_that_there_is_not(tmp_path: Path) -> None:
    path = _twin(tmp_path, "dreaming")
    with pytest.raises(OptionError, match="the VM was in the run state 'dreaming', which qmpd does not know"):
        parse(["--twin", str(path)])
