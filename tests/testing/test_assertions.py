"""`assert_sent` and its patterns: what fits, what does not, and what a failure shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from qmpd.testing import VM, Command, command, start
from qmpd.testing.comparison import aligned, in_order
from qmpd.testing.patterns import as_pattern
from tests.testing.client import Client

DASHED: dict[str, Any] = {"node-name": "a"}


def sent(name: str, client: int = 1, **arguments: Any) -> Command:
    return Command(name, arguments, None, client, 0.0)


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [
        ("stop", sent("stop")),
        ("query-*", sent("query-status")),
        (re.compile("stop|cont"), sent("cont")),
        (command("device_del"), sent("device_del", id="net0")),
        (command("device_del", id="net0"), sent("device_del", id="net0")),
        (command("device_del", id=re.compile(r"net\d")), sent("device_del", id="net0")),
        (command("balloon", value=int), sent("balloon", value=5)),
        (command("balloon", value=lambda value: value > 4), sent("balloon", value=5)),
        (command("balloon", value=mock.ANY), sent("balloon", value=True)),
        (command("x", node_name="a"), sent("x", **DASHED)),
        (command("x", node_name="a"), sent("x", node_name="a")),
        (command("x", file={"driver": "null-co"}), sent("x", file={"driver": "null-co", "size": 3})),
        (command("x", list=[1, {"a": str}]), sent("x", list=[1, {"a": "b", "c": 3}])),
        (command("x", arguments={}), sent("x")),
        (command("x", arguments={"a": int}), sent("x", a=1)),
        (command("x", client=2), sent("x", client=2)),
        (command("x", on=True), sent("x", on=True)),
    ],
)
def test_what_fits(pattern: Any, fitting: Command) -> None:
    assert as_pattern(pattern).fits(fitting)


@pytest.mark.parametrize(
    ("pattern", "other", "reason"),
    [
        ("stop", sent("stopped"), ""),
        (re.compile("stop"), sent("stopped"), ""),
        (command("device_del", id="net0"), sent("device_del", id="net1"), "id is net1, not net0"),
        (command("device_del", id="net0"), sent("device_del"), "has no id"),
        (command("device_del", id=re.compile("net")), sent("device_del", id="net0"), "id is net0, not /net/"),
        (command("balloon", value=int), sent("balloon", value="5"), "value is 5, not <int>"),
        (command("x", on=True), sent("x", on=1), "on is 1, not true"),
        (command("x", on=1), sent("x", on=True), "on is true, not 1"),
        (command("x", file={"driver": "a"}), sent("x", file={"driver": "b"}), "file.driver is b, not a"),
        (command("x", file={"driver": "a"}), sent("x", file={}), "has no file.driver"),
        (command("x", file={"driver": "a"}), sent("x", file=3), "file is 3, not an object"),
        (command("x", list=[1]), sent("x", list=[1, 2]), "list is [1, 2], not [1]"),
        (command("x", list=[1]), sent("x", list=[2]), "list[0] is 2, not 1"),
        (command("x", arguments={}), sent("x", a=1), "has a"),
        (command("x", client=2), sent("x"), ""),
    ],
)
def test_what_does_not_fit(pattern: Any, other: Command, reason: str) -> None:
    assert as_pattern(pattern).mismatch(other) == reason


def test_patterns_that_make_no_sense() -> None:
    with pytest.raises(TypeError):
        command("x", arguments={}, a=1)
    with pytest.raises(TypeError):
        as_pattern(command("x"), {"a": 1})


def test_order() -> None:
    patterns = [as_pattern(name) for name in ("a", "b", "c")]
    assert in_order(patterns, [sent(name) for name in "xaybzc"]) == {0: 1, 1: 3, 2: 5}
    assert in_order(patterns, [sent(name) for name in "bac"]) == {0: 1, 2: 2}
    assert aligned(patterns, [sent(name) for name in "bac"]) in ({1: 0, 2: 2}, {0: 1, 2: 2})
    assert aligned(patterns, [sent(name) for name in "abc"]) == {0: 0, 1: 1, 2: 2}


@pytest.fixture
def vm() -> Iterator[VM]:
    with start(machine="none", clock="virtual") as vm, Client(vm.qmp_path) as client:
        client.execute("query-status")
        vm.clock.advance("1.5s")
        client.send("set-action", reboot="reset")
        client.send("stop")
        client.send("cont")
        yield vm


def test_what_was_sent(vm: VM) -> None:
    vm.assert_sent("query-status")
    vm.assert_sent("query-*", "cont")
    vm.assert_sent("qmp_capabilities", "query-status")
    vm.assert_sent("set-action", reboot="reset")
    vm.assert_sent("query-status", command("set-action", reboot="reset"), "stop", "cont", exactly=True)
    vm.assert_sent("stop", "cont", exactly=True, ignore=["qmp_*", "query-*", "set-action"])
    vm.assert_sent("stop", client=1)
    vm.assert_not_sent("quit")
    vm.assert_not_sent("set-action", reboot="shutdown")
    vm.assert_not_sent(client=2)
    assert [str(each) for each in vm.commands[-3:]] == ["set-action reboot=reset", "stop", "cont"]
    assert [each.time for each in vm.commands[-3:]] == [1.5, 1.5, 1.5]


def failure(function: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def test_a_failure_shows_both_sides(vm: VM) -> None:
    text = failure(vm.assert_sent, "cont", command("set-action", reboot="shutdown"), "query-status")
    assert (
        text
        == """\
what was sent is not what was expected

expected, in this order, others may come between:
    1. cont                         found
    2. set-action reboot=shutdown   NOT SENT
    3. query-status                 NOT SENT here, but earlier, at 0.000000 s

sent:
        0.000000 s  query-status
        1.500000 s  set-action reboot=reset   <- not 2: reboot is reset, not shutdown
        1.500000 s  stop
    1.  1.500000 s  cont"""
    )


def test_a_failure_shows_what_was_too_much(vm: VM) -> None:
    assert (
        failure(vm.assert_sent, "query-status", "cont", "quit", exactly=True)
        == """\
what was sent is not what was expected

expected:
    1. query-status   found
    2. cont           found
    3. quit           NOT SENT

sent:
    1.  0.000000 s  query-status
     +  1.500000 s  set-action reboot=reset
     +  1.500000 s  stop
    2.  1.500000 s  cont"""
    )


def test_a_failure_says_who_where_there_are_several(vm: VM) -> None:
    with Client(vm.qmp_path) as second:
        second.send("quit")
        vm.wait_until_ended()
    text = failure(vm.assert_not_sent, "quit", command("stop"))
    assert (
        text
        == """\
quit or stop should not have been sent

sent:
      0.000000 s  client 1  query-status
      1.500000 s  client 1  set-action reboot=reset
  !!  1.500000 s  client 1  stop
      1.500000 s  client 1  cont
  !!  1.500000 s  client 2  quit"""
    )
    assert failure(vm.assert_not_sent).startswith("nothing should have been sent")
    assert failure(vm.assert_sent, "stop", client=2).endswith("sent:\n        1.500000 s  quit")


def test_nothing_was_sent() -> None:
    with start(machine="none") as vm:
        assert failure(vm.assert_sent, "stop").endswith("\n\nsent: nothing")
        vm.assert_not_sent()
        with pytest.raises(TypeError):
            vm.assert_sent()
        with pytest.raises(TypeError):
            vm.assert_sent("stop", "cont", id=3)
