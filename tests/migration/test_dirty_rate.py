"""How much the guest writes: what calc-dirty-rate measures, in each release's words, under virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qmpd.testing import start
from tests.operations import RELEASES
from tests.testing.client import Client

if TYPE_CHECKING:
    from qmpd.testing import VM

_LINE = ["-machine", "pc", "-m", "512", "-nodefaults", "-display", "none"]


def machine(guest: str, release: str = "10.0") -> VM:
    return start(guest=guest, clock="virtual", release=release, command_line=_LINE)


def human(client: Client, line: str) -> Any:
    return client.execute("human-monitor-command", **{"command-line": line})


def measured(vm: VM, client: Client, seconds: float = 1, **arguments: Any) -> Any:
    """The rate that a measurement finds."""
    assert client.execute("calc-dirty-rate", **arguments) == {}
    assert client.execute("query-dirty-rate")["status"] == "measuring"
    vm.clock.advance(seconds)
    return client.execute("query-dirty-rate")["dirty-rate"]


@pytest.mark.parametrize("release", RELEASES)
def test_the_guest_s_rate_is_found(release: str) -> None:
    with machine("dirty-rate=50M,memory-used=400M", release) as vm, Client(vm.qmp_path) as client:
        vm.clock.advance(1)
        assert measured(vm, client, **{"calc-time": 1}) == 50
        # A guest that has written to all that it uses begins again at the first page.
        assert measured(vm, client, 20, **{"calc-time": 20}) == 20
        client.execute("stop")
        assert measured(vm, client, **{"calc-time": 1}) == 0
        client.execute("calc-dirty-rate", **{"calc-time": 4})
        vm.clock.advance(2)
        client.execute("cont")
        vm.clock.advance(2)
        assert client.execute("query-dirty-rate")["dirty-rate"] == 25


def test_a_guest_that_changes_its_pace() -> None:
    with machine("dirty-rate=10M") as vm, Client(vm.qmp_path) as client:
        assert measured(vm, client, **{"calc-time": 1}) == 10
        vm.guest.set(dirty_rate="30M", memory_used="15M")
        by_bitmap: dict[str, Any] = {"calc-time": 1, "mode": "dirty-bitmap"}
        assert measured(vm, client, **by_bitmap) == 15
        assert client.execute("query-dirty-rate")["sample-pages"] == 0
        milliseconds: dict[str, Any] = {"calc-time": 500, "calc-time-unit": "millisecond"}
        assert measured(vm, client, 0.5, **milliseconds) == 30
        told = client.execute("query-dirty-rate", **{"calc-time-unit": "millisecond"})
        assert (told["calc-time"], told["calc-time-unit"]) == (500, "millisecond")


def test_a_measurement_goes_on_elsewhere() -> None:
    with machine("dirty-rate=10M") as vm, Client(vm.qmp_path) as client:
        client.execute("calc-dirty-rate", **{"calc-time": 3})
        vm.clock.advance(1)
        state = vm.snapshot()
        vm.clock.advance(5)
        assert client.execute("query-dirty-rate")["status"] == "measured"
        vm.restore(state)
        with Client(vm.qmp_path) as other:
            vm.clock.advance(1.9)
            assert other.execute("query-dirty-rate")["status"] == "measuring"
            vm.clock.advance(0.1)
            assert other.execute("query-dirty-rate")["dirty-rate"] == 10


def test_without_memory_nothing_is_found() -> None:
    line = ["-machine", "none", "-nodefaults", "-display", "none"]
    with start(guest=None, clock="virtual", release="11.1", command_line=line) as vm, Client(vm.qmp_path) as client:
        client.execute("calc-dirty-rate", **{"calc-time": 5})
        assert client.execute("query-dirty-rate")["dirty-rate"] == -1


@pytest.mark.parametrize(("release", "later"), [("7.2", "either sample-pages or dirty-ring can be specified."),
                                                ("10.0", "sample-pages is used only in page-sampling mode")])
def test_what_is_refused(release: str, later: str) -> None:
    with machine("dirty-rate=3M", release) as vm, Client(vm.qmp_path) as client:

        def refused(**arguments: object) -> str:
            reply = client.execute("calc-dirty-rate", **{"calc-time": 1, **arguments})
            return str(reply["error"]["desc"])

        assert refused(mode="dirty-ring") == "mode dirty-ring is not enabled, use other method instead."
        assert refused(**{"mode": "dirty-ring", "sample-pages": 1}) == later
        assert refused(**{"sample-pages": 16385}) == "sample-pages is out of range[128, 16384]."
        client.execute("calc-dirty-rate", **{"calc-time": 1})
        assert refused(**{"calc-time": 0}) == "the dirty rate is already being measured."


def test_the_human_monitor_tells_it() -> None:
    with machine("dirty-rate=7M", "7.2") as vm, Client(vm.qmp_path) as client:
        assert "Dirty rate: (not ready)" in human(client, "info dirty_rate")
        assert human(client, "calc_dirty_rate 0") == "Incorrect period length specified!\r\n"
        both = human(client, "calc_dirty_rate -r -b 1")
        assert both == "Either dirty ring or dirty bitmap can be specified!\r\n"
        begun = human(client, "calc_dirty_rate 1 300")
        assert begun.split("\r\n") == [
            "Starting dirty rate measurement with period 1 seconds",
            "[Please use 'info dirty_rate' to check results]",
            "",
        ]
        vm.clock.advance(1)
        start_time = client.execute("query-dirty-rate")["start-time"]
        assert human(client, "info dirty_rate") == (
            f"Status: measured\r\nStart Time: {start_time} (ms)\r\nSample Pages: 300 (per GB)\r\nPeriod: 1 (sec)\r\n"
            "Mode: page-sampling\r\nDirty rate: 7 (MB/s)\r\n"
        )
        assert human(client, "set_vcpu_dirty_limit 1 9").startswith("Error: dirty page limit feature requires KVM")
        assert human(client, "cancel_vcpu_dirty_limit 0").startswith("[Please use 'info vcpu_dirty_limit'")
        assert human(client, "info vcpu_dirty_limit") == "Dirty page limit not enabled!\r\n"
