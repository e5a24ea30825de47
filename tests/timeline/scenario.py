"""Transcripts made by hand, with everything in them that a picture shows."""

from __future__ import annotations

from typing import Any

from qmpd.timeline.transcript import Entry, entry

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": ["oob"]}}


class Scenario:
    """Writes a transcript; times are in microseconds since the entry before."""

    def __init__(self) -> None:
        self.members: list[dict[str, Any]] = []
        self.time = 5_000_000_000

    @property
    def entries(self) -> list[Entry]:
        return [entry(members) for members in self.members]

    def add(self, kind: str, after: float = 10, **members: Any) -> None:
        self.time += int(after * 1000)
        self.members.append({
            "number": len(self.members) + 1,
            "time": self.time,
            "timestamp": {"seconds": 1_700_000_000, "microseconds": 0},
            "kind": kind,
            **{name.rstrip("_"): value for name, value in members.items()},
        })

    def state(self, old: str, new: str, after: float = 1) -> None:
        self.add("run-state", after, **{"from": old, "to": new})

    def connect(self, client: int, after: float = 100) -> None:
        self.add("connected", after, client=client, monitor="compat_monitor0")
        self.add("sent", client=client, message=GREETING)

    def ask(self, client: int, name: str, after: float = 100, **members: Any) -> None:
        arguments = {"arguments": members} if members else {}
        self.add("received", after, client=client, message={"execute": name, **arguments})

    def answer(self, client: int, value: Any = None, after: float = 40, **members: Any) -> None:
        self.add("sent", after, client=client, message={"return": {} if value is None else value, **members})

    def event(self, name: str, *clients: int, after: float = 5, data: dict[str, Any] | None = None) -> None:
        extra = {} if data is None else {"data": data}
        self.add("event", after, event=name, **extra)
        for client in clients:
            self.add("sent", 1, client=client, message={"event": name, "timestamp": {}, **extra})


def full() -> Scenario:
    """One of each kind: two clients, a fault, an override, an unanswered command, long and short times."""
    scenario = Scenario()
    scenario.add("started", release="7.2", name="web-1")
    scenario.state("prelaunch", "running")
    scenario.event("RESUME")
    scenario.connect(1)
    scenario.ask(1, "qmp_capabilities")
    scenario.answer(1)
    scenario.add("guest", 2_000_000, step="booted")
    scenario.connect(2)
    scenario.ask(2, "qmp_capabilities")
    scenario.answer(2)
    scenario.add("control", 600_000, command="guest-reboot")
    scenario.event("RESET", 1, 2, data={"guest": True, "reason": "guest-reset"})
    scenario.ask(1, "set-action", reboot="shutdown")
    scenario.answer(1)
    scenario.event("SHUTDOWN", 1, 2, data={"guest": True, "reason": "guest-reset"})
    scenario.state("running", "paused")
    scenario.event("STOP", 1, 2)
    scenario.ask(2, "query-block")
    scenario.add("fault", fault="drop-connection", id=1, client=2, command="query-block")
    scenario.add("sent", client=2, text='{"return": [{"io-st\x00')
    scenario.add("disconnected", client=2)
    scenario.add("received", 90_000_000, client=1, error="JSON parse error, <invalid> & 'keyword'")
    scenario.add("sent", client=1, message={"error": {"class": "GenericError", "desc": "JSON parse error"}})
    scenario.add("override", client=1, command="query-cpus-fast", id=3)
    scenario.ask(1, "quit")
    scenario.answer(1)
    scenario.add("disconnected", client=1)
    scenario.add("ended", status=0)
    return scenario
