"""A served machine as plain data and open files: what one process hands over to the next.

`take` reads, `put` rebuilds; between the two the machine stands still.  Descriptors are kept apart from the
data, which names each by its number in the list, so that the same data without them is a clone to practise on.
"""

from __future__ import annotations

import copy
import socket
import time
from typing import TYPE_CHECKING, Any

from qmpd.machine import SystemClock
from qmpd.monitor import snapshot as monitor_snapshot
from qmpd.schedule.activity import Carried
from qmpd.server.connection import Connection
from qmpd.server.descriptors import DescriptorSocket
from qmpd.server.listener import Listener
from qmpd.server.pid_file import PidFile
from qmpd.system import snapshot as system_snapshot
from qmpd.system.activities import jobs_at_rest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qmpd.monitor.session import Session
    from qmpd.server.settings import MonitorSettings
    from qmpd.server.virtual_machine import VirtualMachine


class Taken:
    """What `take` gives: `state`, plain data, and `descriptors`, the open files that it refers to."""

    __slots__ = ("descriptors", "state")

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.descriptors: list[int] = []

    def keep(self, descriptor: int) -> int:
        """The number by which the state refers to an open file."""
        self.descriptors.append(descriptor)
        return len(self.descriptors) - 1


def take(vm: VirtualMachine, replies: Mapping[Session, bytes] | None = None) -> Taken:
    """The machine as it is now.  `replies` are owed to these sessions beside what they have got.

    The transcript's entries are left out.
    """
    taken = Taken()
    dispatcher, control = vm.dispatcher, vm.control
    puppeteer = vm.puppeteer
    if puppeteer is not None:
        from qmpd.control import snapshot as puppeteer_snapshot
    sessions = [*dispatcher.sessions, *(control.sessions if control is not None else ())]
    places: dict[Session, int] = {}
    clients: list[dict[str, Any]] = []
    for session in sessions:
        connection = session.owner
        if not isinstance(connection, Connection) or connection.closed or session.broken is not None:
            continue  # it ends with this process
        if not session.lives_on:
            continue
        places[session] = len(clients)
        state = monitor_snapshot.take_session(session)
        outgoing = bytes(connection.pending) + state["outgoing"]
        if replies is not None and session in replies:
            outgoing += replies[session]
        puppeteered = control is not None and session in control.sessions
        unread, files = connection.unread_with_files
        clients.append({
            **state,
            "outgoing": outgoing,
            "number": connection.number,
            "unread": unread,
            "control": puppeteered,
            "follows": puppeteered and control is not None and control.follows(session),
            "puppet": None if puppeteer is None else puppeteer_snapshot.take_client(session),
            "socket": taken.keep(connection.socket.fileno()),
            "files": [taken.keep(number) for number in files],
        })
    deferred = [session for session in dispatcher.sessions if session.deferred is not None]
    parked = [session for session in sessions if session.parked]
    ready = [*deferred, *dispatcher.ready, *(control.ready if control is not None else ()), *parked]
    taken.state = {
        "system": system_snapshot.take(vm.system),
        "dispatcher": monitor_snapshot.take(dispatcher),
        "clock": _take_clock(vm),
        "numbers": vm.acceptor.numbers,
        "listeners": [_take_listener(taken, listener) for _, listener in vm.listeners],
        "clients": clients,
        "ready": [places[session] for session in ready if session in places],
        "files": None if vm.system.descriptors is None else vm.system.descriptors.snapshot(taken.keep),
        "devices": None if vm.devices is None else vm.devices.take(taken.keep),
        "debugger": vm.system.machine.debugger is not None and vm.system.machine.debugger.listens,
        "pid_file": None if vm.pid_file is None else [vm.pid_file.path, taken.keep(vm.pid_file.descriptor)],
        "puppeteer": None if puppeteer is None else puppeteer_snapshot.take(puppeteer, places),
    }
    if vm.puppet_host is not None and vm.puppet_host.transcript is not None:
        descriptor = vm.puppet_host.transcript.descriptor
        if descriptor is not None:
            taken.state["transcript"] = taken.keep(descriptor)
    return taken


def take_alone(vm: VirtualMachine) -> dict[str, Any]:
    """The machine as it is now without its clients: what `put` makes of it has none, and listens nowhere yet.

    :raise ValueError: it has character devices of its own, or clients' files, which cannot be had twice; or it is
        executing a command, which nobody would ask for again.
    """
    if vm.devices is not None:
        raise ValueError("a machine with character devices or network sockets of its own cannot be kept")
    if vm.system.descriptors is not None and not vm.system.descriptors.is_empty:
        raise ValueError("a machine to which clients have handed over files cannot be kept")
    if any(activity.carried is Carried.AGAIN for _, activity in vm.system.activities):
        raise ValueError("a machine that is executing a command cannot be kept")
    with jobs_at_rest(vm.system) as hindrance:
        hindrance = hindrance or vm.system.activities.hindrance()
        if hindrance is not None:
            raise ValueError(hindrance)
        state = copy.deepcopy(take(vm).state)
    state |= {"files": None, "clients": [], "ready": [], "listeners": [], "pid_file": None}
    state.pop("transcript", None)
    if state["puppeteer"] is not None:
        # Replies that are kept back belong to clients.
        state["puppeteer"]["kept"] = []
    return state


def _take_listener(taken: Taken, listener: Listener) -> list[object]:
    descriptor = listener.socket.fileno()
    # A fault has closed it, for now.
    number = None if descriptor == -1 else taken.keep(descriptor)
    return [number, listener.identity]


def put(
    vm: VirtualMachine, state: Mapping[str, Any], descriptors: Sequence[int] | None, *, locked: bool = True
) -> list[tuple[MonitorSettings, Connection]]:
    """Make a new machine what `take` made `state` of; the result is its connections, which nobody reads yet.

    Without descriptors, which is for practice, it has sessions that nobody is connected to.  Who practises while the
    machine is at work elsewhere leaves its disks without locks (`locked`), which would hinder it.

    :raise KeyError, ValueError, OSError: the state is not one that `take` made.
    """
    _put_clock(vm, state["clock"])
    system_snapshot.put(vm.system, state["system"], locked=locked)
    monitor_snapshot.put(vm.dispatcher, state["dispatcher"])
    vm.acceptor.numbers = state["numbers"]
    sessions = []
    connections: list[tuple[MonitorSettings, Connection]] = []
    for client in state["clients"]:
        dispatcher = vm.control if client["control"] and vm.control is not None else vm.dispatcher
        session = monitor_snapshot.put_session(dispatcher, client)
        dispatcher.sessions[session] = None
        sessions.append(session)
        if client["puppet"] is not None and vm.puppeteer is not None:
            from qmpd.control import snapshot as puppeteer_snapshot

            puppeteer_snapshot.put_client(vm.puppeteer, session, client["puppet"])
        if descriptors is not None:
            opened = DescriptorSocket(socket.AF_UNIX, socket.SOCK_STREAM, 0, descriptors[client["socket"]])
            opened.setblocking(False)
            opened.received = tuple(descriptors[number] for number in client["files"])
            connection = Connection(vm, opened, session, client["number"])
            connection.unread = client["unread"]
            connections.append((_monitor(vm, client), connection))
    for place in state["ready"]:
        session = sessions[place]
        session.scheduled = True
        session.dispatcher.ready.append(session)
    if state["puppeteer"] is not None:
        _put_puppeteer(vm, state, sessions)
    if descriptors is None:
        return connections
    for monitor, (number, identity) in zip(vm.monitors, state["listeners"], strict=True):
        descriptor = None if number is None else descriptors[number]
        vm.listeners.append((monitor, Listener.inherit(monitor.path, descriptor, identity)))
    if state["files"] is not None:
        from qmpd.system.descriptors import Descriptors

        vm.system.descriptors = Descriptors.restore(state["files"], descriptors)
    if state["devices"] is not None:
        from qmpd.server.chardevs.devices import CharacterDevices

        vm.devices = CharacterDevices(vm)
        vm.devices.put(state["devices"], descriptors)
    if state.get("debugger"):
        from qmpd.server import debugging

        debugging.open_again(vm)
    if "transcript" in state:
        if vm.puppet_host is None or vm.settings.transcript is None:
            raise ValueError("a transcript is handed over to a machine that writes none")
        vm.puppet_host.inherit_transcript(vm.settings.transcript, descriptors[state["transcript"]])
    if state["pid_file"] is not None:
        path, number = state["pid_file"]
        vm.pid_file = PidFile.inherit(path, descriptors[number])
    return connections


def _put_puppeteer(vm: VirtualMachine, state: Mapping[str, Any], sessions: Sequence[Session]) -> None:
    from qmpd.control import snapshot as puppeteer_snapshot

    puppeteer = vm.play()
    puppeteer_snapshot.put(puppeteer, state["puppeteer"], sessions)
    for client, session in zip(state["clients"], sessions, strict=True):
        if client["follows"] and vm.control is not None:
            vm.control.follow(session, True)


def _monitor(vm: VirtualMachine, client: Mapping[str, Any]) -> MonitorSettings:
    """What the client has connected to."""
    if client["control"] and vm.settings.control is not None:
        return vm.settings.control
    return next(monitor for monitor in vm.settings.monitors if monitor.chardev == client["label"])


def _take_clock(vm: VirtualMachine) -> dict[str, object] | None:
    clock = vm.clock
    if isinstance(clock, SystemClock):
        return None
    from qmpd.control.clock import PuppetClock

    assert isinstance(clock, PuppetClock)
    return {**clock.snapshot(), "at": time.monotonic_ns()}


def _put_clock(vm: VirtualMachine, state: Mapping[str, Any] | None) -> None:
    if state is not None:
        from qmpd.control.clock import PuppetClock

        if not isinstance(vm.clock, PuppetClock):
            raise ValueError("a clock is handed over to a machine that goes by the computer's")
        vm.clock.restore(state, time.monotonic_ns() - state["at"])
