"""What a puppeteer has made of a machine, as plain data, for a process that takes the machine over.

The transcript can be long, so its entries are taken apart from the rest, and may go ahead of it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from qmpd.common.plain import from_plain, to_plain
from qmpd.control.fault_list import Fault, FaultKind
from qmpd.control.interceptor import Kept
from qmpd.control.job_faults import attach
from qmpd.control.migration_faults import attach as attach_to_migrations
from qmpd.control.overrides import ReplyOverride
from qmpd.control.recorder import EntryKind, Spelled
from qmpd.control.session import PuppetSession
from qmpd.control.values import MISSING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qmpd.control.puppeteer import Puppeteer
    from qmpd.control.recorder import KeptEntry
    from qmpd.monitor.session import Session


def take(puppeteer: Puppeteer, places: Mapping[Session, int]) -> dict[str, object]:
    """The faults, the overrides and what is kept back; `places` has the number of each session."""
    interceptor = puppeteer.interceptor
    faults, last_fault = puppeteer.fault_list.state()
    overrides, last_override = puppeteer.overrides.state()
    return {
        "faults": [to_plain(fault) for fault in faults],
        "last_fault": last_fault,
        "overrides": [_take_override(override) for override in overrides],
        "last_override": last_override,
        "clients": interceptor.numbers,
        "kept": [
            [kept.fault, places[kept.session], kept.deadline, kept.reply, kept.command, kept.in_band]
            for kept in interceptor.kept
            if kept.session in places
        ],
        "number": puppeteer.recorder.number,
    }


def put(puppeteer: Puppeteer, state: Mapping[str, Any], sessions: Sequence[Session]) -> None:
    """Have the puppeteer of a new machine go on as `take` found the one that made `state`.

    Its sessions are there by now (`put_client`); its sockets suffer from their faults again.
    """
    puppeteer.fault_list.restore([from_plain(Fault, fault) for fault in state["faults"]], state["last_fault"])
    overrides = [ReplyOverride(**override) for override in state["overrides"]]
    puppeteer.overrides.restore(overrides, state["last_override"])
    interceptor = puppeteer.interceptor
    interceptor.numbers = state["clients"]
    if any(fault.kind is FaultKind.JOB for fault in puppeteer.fault_list):
        attach(puppeteer)
    if any(fault.kind is FaultKind.MIGRATION for fault in puppeteer.fault_list):
        attach_to_migrations(puppeteer)
    for fault, place, deadline, reply, command, in_band in state["kept"]:
        session = sessions[place]
        if not isinstance(session, PuppetSession):
            raise ValueError("a reply is kept for a client without a puppeteer")
        interceptor.keep(Kept(fault, session, deadline, reply, command, in_band))
    if puppeteer.fault_list.holds(FaultKind.EXHAUST_DESCRIPTORS):
        puppeteer.host.exhaust_descriptors(True)


def take_client(session: Session) -> dict[str, object] | None:
    """What is kept about one of the machine's clients; None where nobody plays with it."""
    if not isinstance(session, PuppetSession):
        return None
    client = session.client
    return {
        "number": client.number,
        "held": session.held and session.deferred is None,
        "resumed": client.resumed,
        "stalled_by": client.stalled_by,
        "kept": list(client.kept),
    }


def put_client(puppeteer: Puppeteer, session: Session, state: Mapping[str, Any]) -> None:
    """Come between a session and its commands again."""
    client = puppeteer.interceptor.adopt(session).client
    client.number = state["number"]
    session.held = state["held"]
    client.resumed = state["resumed"]
    client.stalled_by = state["stalled_by"]
    client.kept = deque(state["kept"])


def take_entries(entries: Sequence[KeptEntry]) -> list[list[Any]]:
    """Entries of the transcript."""
    return [
        [number, monotonic, wall, str(kind), _take_members(members)]
        for number, monotonic, wall, kind, members in entries
    ]


def put_entries(entries: Sequence[Sequence[Any]]) -> list[KeptEntry]:
    """The entries that `take_entries` was given."""
    return [
        (number, monotonic, wall, EntryKind(kind), _put_members(members))
        for number, monotonic, wall, kind, members in entries
    ]


def _take_members(members: dict[str, Any]) -> dict[str, Any]:
    """Values that are kept as text become lists of it, to be told from other bytes."""
    return {
        name: [value.decode()] if type(value) is Spelled else value
        for name, value in members.items()
        if value is not MISSING
    }


def _put_members(members: dict[str, Any]) -> dict[str, Any]:
    return {name: Spelled(value[0].encode()) if type(value) is list else value for name, value in members.items()}


def _take_override(override: ReplyOverride) -> dict[str, Any]:
    found = {field.name: getattr(override, field.name) for field in fields(override)}
    return {name: value for name, value in found.items() if value is not MISSING}
