"""Bytes that no person types and no test program sends, to the human monitor and to qtest: nothing fails at them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from qmpd.machine import MachineSettings, SystemClock
from qmpd.server.settings import VMSettings
from qmpd.server.virtual_machine import VirtualMachine

if TYPE_CHECKING:
    from qmpd.monitor.session import Session

KEYS = [
    *(b"\x01", b"\x04", b"\x05", b"\x08", b"\t", b"\x0c", b"\x17", b"\x1b", b"\x7f", b"\x9b", b"\n", b"\r", b"\x00"),
    *(b"\x1b[A", b"\x1b[B", b"\x1b[3~", b"\x1b[1~", b"\x1bOH", b"\x1b[\xb2~", b"\x1b[99999999999999999~", b"\xff"),
    *(b"info ", b"help ", b"i", b"x", b"watchdog_action ", b"stop\n", b"info status\n", b"nonsense /x\n", b"'\"\\"),
]
WORDS = [
    *(b"read", b"write", b"memset", b"b64read", b"b64write", b"readq", b"outb", b"inl", b"clock_step", b"clock_set"),
    *(b"0", b"0x1000", b"-1", b"4096", b"0xffffffffffffffff", b"1e9", b"9" * 5000, b"0x", b"zz", b"\xff\xfe", b"\x00"),
    *(b"irq_intercept_in", b"set_irq_in", b"module_load", b"/machine", b"0x00ff", b"AAAA", b"=", b"endianness", b""),
]
typed = st.lists(st.one_of(st.sampled_from(KEYS), st.binary(max_size=4)), max_size=40).map(b"".join)
lines = st.lists(st.lists(st.sampled_from(WORDS), max_size=5).map(b" ".join), max_size=8).map(b"\n".join)
slices = st.lists(st.integers(1, 50), max_size=8)


def session(kind: str) -> Session:
    vm = VirtualMachine(
        VMSettings(release="7.2", machine=MachineSettings(machine_type="none", qtest_log="none")), SystemClock()
    )
    vm.start()
    if kind == "human":
        from qmpd.human.terminal import open_terminal

        return open_terminal(vm.system, vm.dispatcher, "human")
    from qmpd.qtest.protocol import open_qtest

    return open_qtest(vm.system, vm.dispatcher, "qtest")


def feed(session: Session, data: bytes, sizes: list[int]) -> bytes:
    session.take_outgoing()
    for size in sizes:
        session.receive(data[:size])
        data = data[size:]
    session.receive(data)
    return session.take_outgoing()


@settings(max_examples=60, deadline=None)
@given(typed, slices)
def test_whatever_is_typed(data: bytes, sizes: list[int]) -> None:
    assert feed(session("human"), data, sizes) == feed(session("human"), data, [])


@settings(max_examples=60, deadline=None)
@given(lines, slices)
def test_whatever_a_test_program_sends(data: bytes, sizes: list[int]) -> None:
    answers = feed(session("qtest"), data + b"\n", sizes)
    wanted = sum(bool(line.decode("utf-8", "replace").split()) for line in data.split(b"\n"))
    assert len(answers.splitlines()) == wanted
    assert all(answer.startswith((b"OK", b"FAIL")) for answer in answers.splitlines())
    assert b"defect" not in answers


def test_long_lines_of_a_test_program_cost_what_they_are_long() -> None:
    from qmpd.qtest.protocol import LARGEST, LONGEST

    playing = session("qtest")
    began = time.process_time()
    playing.receive(b"write 0x1000 %d 0x" % LARGEST)
    for _ in range(2 * LARGEST // (1 << 14)):
        playing.receive(b"ab" * (1 << 13))
    assert feed(playing, b"\nread 0x1ffe 3\n", []) == b"OK\nOK 0xababab\n"
    for _ in range(LONGEST // (1 << 16) + 2):
        playing.receive(b"x" * (1 << 16))
    assert playing._size > LONGEST  # type: ignore[attr-defined]
    assert playing._input == []  # type: ignore[attr-defined]
    assert feed(playing, b"\nread 0 1\nread 0 %d\n" % (LARGEST + 1), []) == (
        b"FAIL A line has at most %d bytes\nOK 0x00\nFAIL qmpd reads and writes at most %d bytes at once\n"
        % (LONGEST, LARGEST)
    )
    assert time.process_time() - began < 5


def test_a_long_number_that_is_typed_costs_what_it_is_long() -> None:
    began = time.process_time()
    feed(session("human"), b"\x1b[" + b"9" * 300_000 + b"~", [])
    assert time.process_time() - began < 5
