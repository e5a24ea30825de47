"""What a test may give to the methods of a VM: plain strings for enumerations, and nothing that makes no sense."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import pytest

from qmpd.machine import GuestAction, WakeupReason
from qmpd.testing import ControlError, start
from tests.testing.client import Client

THERE_ARE = "; there are 'ignore', 'refuse' and 'release'"
KINDS = pytest.mark.parametrize("subprocess", [False, True], ids=["thread", "process"])


@KINDS
def test_strings_are_what_they_say(subprocess: bool) -> None:
    guest = "boot-time=0,firmware=none"
    with start(guest=guest, clock="virtual", options=["-device", "e1000,id=n0"], subprocess=subprocess) as vm:
        vm.clock.run_until_quiet()
        vm.guest.set(on_unplug="ignore", on_powerdown="reboot", boot_time="1s", balloon=False)
        options = vm.guest.query().options
        assert options["on_powerdown"] is GuestAction.REBOOT
        with Client(vm.qmp_path) as client:
            client.execute("device_del", id="n0")
            vm.clock.advance("1h")
            # A guest that refuses would have said so; one that ignores says nothing.
            assert [event.name for event in vm.events] == ["RESUME"]
            vm.guest.suspend()
            vm.wait_for_run_state("suspended")
            vm.guest.wake("rtc")
            assert vm.guest.query().wakeup_reason is WakeupReason.RTC
        vm.faults.garbage("now")
        vm.clock.set("scaled", 2)
        assert vm.transcript.query(kind="fault")


WRONG: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("guest.set", [], {"on_unplug": "ignroe"}, "'on-unplug' does not take 'ignroe'; did you mean 'ignore'?"),
    ("guest.set", [], {"on_unplug": "x"}, f"'on-unplug' does not take 'x'{THERE_ARE}"),
    ("guest.set", [], {"on_unplug": True}, f"'on-unplug' does not take True{THERE_ARE}"),
    ("guest.set", [], {"on_powerdwn": "none"}, "there is no option 'on-powerdwn'; did you mean 'on-powerdown'?"),
    ("guest.set", [], {"balloon": "on"}, "'balloon' is True or False, not 'on'"),
    ("guest.set", [], {"debug_exit_value": "2"}, "'debug-exit-value' is an integer, not '2'"),
    ("guest.set", [], {"firmware_resets": "3-2"},
     "'firmware-resets' is a number from 0 to 1000, or two of them like 2-3"),
    ("guest.set", [], {"boot_time": True}, "'boot-time' is a number or a string, not True"),
    ("guest.wake", ["rct"], {}, "'reason' does not take 'rct'; did you mean 'rtc'?"),
    ("guest.debug_exit", [True], {}, "'value' is an integer, not True"),
    ("guest.set_filter", ["n0"], {"vlan_table": 3}, "'vlan-table' is a list, not 3"),
    ("guest.set_filter", ["n0"], {"vlan_table": ["3"]}, "'vlan-table' is an integer, not '3'"),
    ("faults.drop_connection", ["in-reply"], {}, "'when' does not take 'in-reply'; did you mean 'within-reply'?"),
    ("clock.set", ["vritual"], {}, "'kind' does not take 'vritual'; did you mean 'virtual'?"),
]  # fmt: skip


@KINDS
def test_nonsense_is_told(subprocess: bool) -> None:
    with start(guest="", clock="virtual", subprocess=subprocess) as vm:
        for method, arguments, options, complaint in WRONG:
            with pytest.raises(ControlError) as told:
                attrgetter(method)(vm)(*arguments, **options)
            assert str(told.value) == complaint
        with pytest.raises(TypeError, match="unexpected keyword argument 'resaon'"):
            vm.guest.wake(resaon="rtc")  # type: ignore[call-arg]
        assert vm.run_state == "running"
