"""A session that another process takes over goes on as if it had never been cut."""

from __future__ import annotations

import marshal
import random
from typing import Any

import pytest

from qmpd.machine import MachineSettings, VirtualClock
from qmpd.machine.events import Event
from qmpd.monitor import snapshot
from qmpd.monitor.dispatcher import Dispatcher
from qmpd.monitor.session import Session
from qmpd.qapi import load_release
from qmpd.system import snapshot as system_snapshot
from qmpd.system.system import System

ODD = b"".join((
    b'{"execute": "query-status", "id": {"a": [1, 2.5, null, true, "\\u00e9\\ud83d\\ude00"]}}\r\n',
    b'{"execute": "no-such-command", "id": 18446744073709551615}',
    b'{"execute": ]{"execute": "query-name"}\n[1, 2]\n"text"\n17\n',
    b'{"execute": "query-uuid", "arguments": {"path": "/x", "property": "' + b"p" * 300 + b'"}}',
    b'{"execute": "stop"}{"execute": "cont", "id": "\xc3\xa9"} \t\n%\x01{"execute": "query-name", "id": 1e999}',
    b'{"execute": "query-name", "id": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"execute": "query-uuid", "arguments": {}, "id": -0.0}\n',
))


class Bench:
    """A dispatcher with one client."""

    def __init__(self, release: str, clock: VirtualClock) -> None:
        self.clock = clock
        settings = MachineSettings(machine_type="none")
        self.system = System(load_release(release), settings, clock, lambda: None)
        self.dispatcher = Dispatcher(self.system)
        self.session: Session

    def greet(self, enable: bytes) -> None:
        self.system.machine.start()
        self.session = self.dispatcher.open_session()
        self.feed(b'{"execute": "qmp_capabilities"' + enable + b"}")
        self.run()

    def feed(self, data: bytes) -> None:
        self.session.receive(data)

    def run(self, limit: int | None = None) -> None:
        """Execute requests until their replies have `limit` bytes; all of them without one."""
        if limit is not None:
            self.dispatcher.run_requests(limit)
        else:
            while self.dispatcher.run_requests():
                pass
        while self.system.machine.pending:
            self.system.turn()

    def sent(self) -> bytes:
        return self.session.take_outgoing()

    def taken_over(self) -> Bench:
        """Another dispatcher that goes on where this one is."""
        state: dict[str, Any] = {
            "system": system_snapshot.take(self.system),
            "dispatcher": snapshot.take(self.dispatcher),
            "session": snapshot.take_session(self.session),
            "ready": self.session in self.dispatcher.ready,
        }
        state = marshal.loads(marshal.dumps(state, 4))
        other = Bench(self.system.release.name, self.clock)
        system_snapshot.put(other.system, state["system"])
        snapshot.put(other.dispatcher, state["dispatcher"])
        other.session = snapshot.put_session(other.dispatcher, state["session"])
        other.dispatcher.sessions[other.session] = None
        if state["ready"]:
            other.session.scheduled = True
            other.dispatcher.ready.append(other.session)
        return other


ENABLE = b', "arguments": {"enable": ["oob"]}'


@pytest.mark.parametrize(
    ("release", "enable"), [("2.x-live-update", b""), ("5.2", b""), ("5.2", ENABLE), ("11.1", b""), ("11.1", ENABLE)]
)
def test_cut_anywhere_it_answers_the_same(release: str, enable: bytes) -> None:
    whole = Bench(release, VirtualClock())
    whole.greet(enable)
    whole.feed(ODD * 3)
    whole.run()
    expected = whole.sent()
    assert expected.count(b'"return"') > 20
    for seed in range(25):
        chance = random.Random(seed)
        bench = Bench(release, VirtualClock())
        bench.greet(enable)
        rest = ODD * 3
        while rest:
            length = chance.choice((1, 7, 80, 400, 5000))
            bench.feed(rest[:length])
            rest = rest[length:]
            bench.run(chance.choice((0, 1, 100, 500)))
            if chance.random() < 0.2:
                bench = bench.taken_over()
        bench.run()
        assert bench.sent() == expected, f"seed {seed}"


def test_held_back_events_are_handed_over() -> None:
    bench = Bench("7.2", VirtualClock())
    bench.greet(b"")
    bench.sent()
    for offset in (1, 2, 3):
        bench.dispatcher.limiter.offer(Event("RTC_CHANGE", {"offset": offset}, 1_700_000_000_000_000 + offset))
    assert bench.sent().count(b"RTC_CHANGE") == 1
    bench.clock.advance(400_000_000)
    other = bench.taken_over()
    assert other.system.machine.schedule.next_deadline() == bench.clock.monotonic_nanoseconds() + 600_000_000
    other.clock.advance(600_000_000)
    other.system.machine.schedule.run()
    assert b'"offset": 3' in other.sent()
    other.clock.advance(1_000_000_000)
    other.system.machine.schedule.run()
    assert other.system.machine.schedule.next_deadline() is None
    assert other.sent() == b""
