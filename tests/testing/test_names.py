"""Names that a test waits for or asserts: one that cannot come is told at once, with the one that was meant."""

from __future__ import annotations

import pydoc
import re
from typing import TYPE_CHECKING, Any

import pytest

import qmpd.testing
from qmpd.testing import UnknownNameError, command, start
from tests.testing.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.testing import VM

WRONG: list[tuple[Callable[[VM], Any], str]] = [
    (lambda vm: vm.wait_for_event("RESTE"), "event 'RESTE'; did you mean 'RESET'?"),
    (lambda vm: vm.wait_for_event("reset"), "event 'reset'; did you mean 'RESET'?"),
    (lambda vm: vm.assert_sent("qurey-status"), "command 'qurey-status'; did you mean 'query-status'?"),
    (lambda vm: vm.assert_not_sent("quti"), "command 'quti'; did you mean 'quit'?"),
    (lambda vm: vm.assert_sent("stop", command("cnot")), "command 'cnot'; did you mean 'cont'?"),
    (lambda vm: vm.wait_for_command("device-del"), "command 'device-del'; did you mean 'device_del'?"),
]


def test_a_wrong_name_is_told_at_once() -> None:
    with start(machine="none") as vm:
        for call, complaint in WRONG:
            with pytest.raises(UnknownNameError) as told:
                call(vm)
            assert str(told.value) == f"QEMU 10.0 has no {complaint}"
        with pytest.raises(UnknownNameError, match="there is no run state 'puased'; did you mean 'paused'?"):
            vm.wait_for_run_state("puased")


def test_what_was_seen_is_no_wrong_name() -> None:
    with start(machine="none") as vm, Client(vm.qmp_path) as client:
        client.send("qurey-status")
        assert client.message()["error"]["class"] == "CommandNotFound"
        vm.assert_sent("qurey-status")
        vm.replies.emit("MADE_UP", {}, check=False)
        assert vm.wait_for_event("MADE_UP").data == {}


def test_patterns_are_not_looked_up() -> None:
    with start(machine="none") as vm:
        vm.assert_not_sent(re.compile("qurey-.*"), "qurey-*")


def test_extensions_have_names() -> None:
    with start(machine="none", options=["-extension", "live-update"]) as vm:
        vm.assert_not_sent("live-update-prepare")
    with start(machine="none") as vm, pytest.raises(UnknownNameError):
        vm.assert_not_sent("live-update-prepare")


def test_a_name_of_the_package() -> None:
    with pytest.raises(AttributeError, match="did you mean 'start'"):
        _ = qmpd.testing.strat  # type: ignore[attr-defined]
    for name in qmpd.testing.__all__:
        assert getattr(qmpd.testing, name) is not None
    assert set(qmpd.testing.__all__) == set(dir(qmpd.testing))


def test_the_traceback_ends_in_the_test(pytester: pytest.Pytester) -> None:
    from tests.testing.test_plugin import result

    pytester.makepyfile(
        """
        import asyncio

        def test_event(qmpd):
            qmpd(machine="none").wait_for_event("RESET", timeout=0.01)

        def test_event_async(qmpd):
            asyncio.run(qmpd(machine="none").wait_for_event_async("RESET", timeout=0.01))

        def test_command(qmpd):
            qmpd(machine="none").wait_for_command("stop", timeout=0.01)

        def test_state(qmpd):
            qmpd(machine="none").wait_for_run_state("paused", timeout=0.01)

        def test_end(qmpd):
            qmpd(machine="none").wait_until_ended(timeout=0.01)

        def test_name(qmpd):
            qmpd(machine="none").assert_sent("qurey-status")

        def test_guest(qmpd):
            qmpd(guest="", clock="virtual").guest.set(on_unplug="x")

        def test_control(qmpd):
            qmpd(guest="", clock="virtual").guest.panic()
        """
    )
    outcome = result(pytester, "--tb=short")
    outcome.assert_outcomes(failed=8)
    frames = [line for line in outcome.outlines if re.match(r"\S*qmpd/\S+\.py:\d+: in ", line)]
    assert frames == []


def test_pydoc_shows_the_api() -> None:
    text = pydoc.plain(pydoc.render_doc(qmpd.testing))
    for name in ("class VM", "wait_for_event", "assert_sent", "class VMFactory", "class VMTestCase"):
        assert name in text
    # Python 3.13 puts the parameters of a long signature on lines of their own.
    assert "start(*" in "".join(text.replace("|", " ").split())
