"""The puppeteer's methods, called from Python in the thread that runs the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qmpd.control.clock import ClockKind
from qmpd.control.errors import ControlError
from qmpd.control.fault_list import FaultKind, ReplyMoment
from qmpd.control.guest import GuestStep
from qmpd.control.recorder import EntryKind
from qmpd.guest.phases import GuestPhase
from qmpd.machine import GuestAction, GuestSettings, MachineError, RunState, WakeupReason
from tests.control.support import played

if TYPE_CHECKING:
    from pathlib import Path


async def test_methods_are_the_commands(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GuestSettings(boot_time=0)) as machine:
        client = await machine.connect()
        puppeteer = machine.vm.play()
        puppeteer.guest.set(boot_time="2s", on_powerdown=GuestAction.NONE)
        puppeteer.clock.advance("1s")
        state = puppeteer.guest.query()
        assert (state.phase, state.run_state) == (GuestPhase.BOOTING, RunState.RUNNING)
        assert [type(step) for step in state.steps] == [GuestStep]
        assert state.options["boot_time"] == 2
        puppeteer.guest.suspend()
        assert (await client.message())["event"] == "SUSPEND"
        puppeteer.guest.wake(WakeupReason.RTC)
        assert (await client.message())["event"] == "WAKEUP"
        with pytest.raises(MachineError, match="not in suspended state"):
            puppeteer.guest.wake()
        with pytest.raises(ControlError, match="is not a time"):
            puppeteer.clock.advance("soon")
        puppeteer.clock.set(ClockKind.SCALED, 2.0)
        assert puppeteer.clock.query().factor == 2


async def test_what_was_sent_before_is_executed_before(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GuestSettings(boot_time=0)) as machine:
        client = await machine.connect()
        puppeteer = machine.vm.play()
        puppeteer.clock.advance(1)
        # Nobody has given the machine's tasks a chance to read this when the guest acts.
        client.stream.socket._sock.send(b'{"execute": "stop"}')  # type: ignore[attr-defined]
        with pytest.raises(MachineError, match="does not run"):
            puppeteer.guest.reboot()
        assert (await client.message())["event"] == "STOP"
        assert await client.message() == {"return": {}}


async def test_one_who_comes_late_takes_over_who_is_there(tmp_path: Path) -> None:
    async with played(tmp_path, control=False) as machine:
        client, other = await machine.connect(), await machine.connect()
        await client.execute("query-name")
        puppeteer = machine.vm.play()
        assert puppeteer is machine.vm.play()
        assert [entry.client for entry in puppeteer.transcript.query(kind=EntryKind.CONNECTED)] == [1, 2]
        fault = puppeteer.faults.drop_connection(ReplyMoment.WITHIN, client=2)
        assert fault.fault is FaultKind.DROP_CONNECTION
        puppeteer.replies.override("query-name", {"name": "other"}, count=1)
        assert (await client.execute("query-name"))["return"] == {"name": "other"}
        await other.send(b'{"execute": "query-name"}')
        assert await other.line() is None
        assert other.buffer == b'{"return": '[: len(other.buffer)] != b""
        sent = puppeteer.transcript.query(kind=EntryKind.SENT, client=1)
        assert [entry.message for entry in sent] == [{"return": {"name": "other"}, "id": "execute"}]
        await machine.healthy()


async def test_a_clock_that_is_nobodys_to_change(tmp_path: Path) -> None:
    async with played(tmp_path, control=False, clock="real") as machine:
        await machine.connect()
        puppeteer = machine.vm.play()
        with pytest.raises(ControlError, match="was not started with a clock that can be changed"):
            puppeteer.clock.advance(1)
        assert puppeteer.guest.query().run_state is RunState.RUNNING


async def test_a_machine_that_has_ended_is_still_told_of(tmp_path: Path) -> None:
    async with played(tmp_path, guest=GuestSettings(boot_time=0)) as machine:
        await machine.connect()
        puppeteer = machine.vm.play()
        puppeteer.clock.advance(1)
        puppeteer.guest.shut_down()
        assert puppeteer.ended
        assert await machine.end() == 0
        (ended,) = puppeteer.transcript.query(kind=EntryKind.ENDED)
        assert ended.status == 0
        with pytest.raises(ControlError, match="the machine has ended"):
            puppeteer.guest.reboot()
