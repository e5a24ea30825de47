"""A walk through what can be done with disks, as the soak expects it: nodes, bitmaps, transactions, a job, exports.

It shares no code with qmpd; what is told in which order is what real QEMU releases were seen to do with nodes of the
driver null-co (a job that streams to the bottom of a chain has nothing to copy and ends at once).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from random import Random

NODES = ("x0", "x1")
BITMAPS = ("b0", "b1")
JOBS = ("j0", "j1")
EXPORTS = ("e0", "e1")
BUSY = "Bitmap '{}' is currently in use by another operation and cannot be used"

Event = tuple[str, str]


class Told(NamedTuple):
    """What a command brings about: the events before its reply, what it is refused with (empty: it is carried out),
    and the events after the reply."""

    before: tuple[Event, ...] = ()
    refused: str = ""
    after: tuple[Event, ...] = ()
    error_class: str = "GenericError"


class _Refused(Exception):  # noqa: N818 (an answer like any other)
    def __init__(self, text: str, error_class: str = "GenericError") -> None:
        super().__init__(text)
        self.text = text
        self.error_class = error_class


@dataclass
class Job:
    """A job that has nothing to copy: `pending` until it is finalized, then `concluded` until it is dismissed.

    Until it has concluded it sits between its node and those who used that when it began: the exports `above`.
    """

    node: str
    state: str
    dismissed: bool
    above: frozenset[str] = frozenset()


@dataclass
class Disks:
    """What one client has made, and takes away again.  `old`: a release that replies before events, worded as 5.2."""

    old: bool
    nodes: dict[str, dict[str, bool]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    serving: bool = False
    exports: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)

    # Choosing

    def choose(self, random: Random) -> tuple[str, dict[str, Any]]:
        """A command and its arguments."""
        pick = random.choice
        free = [name for name in NODES if name not in self.nodes]
        if free and (not self.nodes or random.random() < 0.1):
            return "blockdev-add", {"driver": "null-co", "node-name": free[0], "size": 1 << 20}
        node = pick(list(self.nodes))
        job, export = pick(JOBS), pick(EXPORTS)
        made: list[tuple[str, dict[str, Any]]] = [
            self._bitmap_action(random),
            self._bitmap_action(random),
            ("transaction", {"actions": self._actions(random)}),
            ("block-stream", {"job-id": job, "device": node, "auto-finalize": pick((True, False)),
                              "auto-dismiss": pick((True, False))}),
            (pick(("job-finalize", "job-dismiss", "job-cancel")), {"id": job}),
            ("blockdev-del", {"node-name": node}),
            ("nbd-server-stop", {}) if self.serving and random.random() < 0.3 else ("nbd-server-start", {
                "addr": {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}}),
            ("block-export-add", {"type": "nbd", "id": export, "node-name": node, "name": export, "writable": True,
                                  "bitmaps": random.sample(BITMAPS, random.randrange(2))}),
            ("block-export-del", {"id": export}),
        ]  # fmt: skip
        return pick(made)

    def _bitmap_action(self, random: Random) -> tuple[str, dict[str, Any]]:
        verb = random.choice(("add", "add", "remove", "clear", "enable", "disable"))
        return f"block-dirty-bitmap-{verb}", {"node": random.choice(NODES), "name": random.choice(BITMAPS)}

    def _actions(self, random: Random) -> list[dict[str, Any]]:
        kinds = ("add", "clear", "enable", "disable")
        actions: list[dict[str, Any]] = [
            {"type": f"block-dirty-bitmap-{random.choice(kinds)}",
             "data": {"node": random.choice(list(self.nodes)), "name": random.choice(BITMAPS)}}
            for _ in range(random.randrange(1, 4))
        ]  # fmt: skip
        # Enabling what is missing ends some releases.
        actions = [each for each in actions if each["type"].endswith(("add", "clear")) or self._has(each["data"])]
        if random.random() < 0.4:
            actions.append({"type": "abort", "data": {}})
        return actions

    def _has(self, which: dict[str, Any]) -> bool:
        return which["name"] in self.nodes.get(which["node"], {})

    def next_to_clean(self) -> tuple[str, dict[str, Any]] | None:
        """A command that takes something away; None where nothing is left."""
        for name, job in self.jobs.items():
            return ("job-dismiss" if job.state == "concluded" else "job-cancel"), {"id": name}
        for name in self.exports:
            return "block-export-del", {"id": name}
        if self.serving:
            return "nbd-server-stop", {}
        for name in self.nodes:
            return "blockdev-del", {"node-name": name}
        return None

    # Carrying out

    def execute(self, name: str, arguments: dict[str, Any]) -> Told:
        """What a command brings about."""
        try:
            told: Told = getattr(self, "_" + name.replace("-", "_"))(arguments)
        except _Refused as refused:
            return Told(refused=refused.text, error_class=refused.error_class)
        return told

    def _blockdev_add(self, arguments: dict[str, Any]) -> Told:
        self.nodes[arguments["node-name"]] = {}
        return Told()

    def _working(self, node: str) -> bool:
        return any(job.node == node for job in self.jobs.values())

    def _blockdev_del(self, arguments: dict[str, Any]) -> Told:
        node = arguments["node-name"]
        at_work = [job for job in self.jobs.values() if job.node == node and job.state != "concluded"]
        above = at_work[0].above if at_work else frozenset()
        exported = any(used == node and name not in above for name, (used, _) in self.exports.items())
        if self._working(node) and not self.old and not exported:
            raise _Refused(f"Node '{node}' is busy: block device is in use by block job: stream")
        if self._working(node) or exported:
            raise _Refused(f"Node {node} is in use")
        del self.nodes[node]
        return Told()

    # Bitmaps

    def _busy(self, node: str, name: str) -> bool:
        return any(used == node and name in names for used, names in self.exports.values())

    def _change_bitmap(self, kind: str, data: dict[str, Any]) -> None:
        node, name = data["node"], data["name"]
        if node not in self.nodes:
            missing = f"Cannot find device={node} nor node_name={node}" if self.old else (
                f"Cannot find device='{node}' nor node-name='{node}'"
            )
            raise _Refused(missing if kind == "add" else f"Node '{node}' not found")
        bitmaps = self.nodes[node]
        if kind == "add":
            if name in bitmaps:
                raise _Refused(f"Bitmap already exists: {name}")
            bitmaps[name] = True
            return
        if name not in bitmaps:
            raise _Refused(f"Dirty bitmap '{name}' not found")
        if self._busy(node, name):
            raise _Refused(BUSY.format(name))
        if kind == "remove":
            del bitmaps[name]
        elif kind != "clear":
            bitmaps[name] = kind == "enable"

    def __getattr__(self, name: str) -> Any:
        """The commands about one bitmap."""
        kind = name.removeprefix("_block_dirty_bitmap_")
        if kind == name:
            raise AttributeError(name)

        def change(arguments: dict[str, Any]) -> Told:
            self._change_bitmap(kind, arguments)
            return Told()

        return change

    def _transaction(self, arguments: dict[str, Any]) -> Told:
        before = {name: dict(bitmaps) for name, bitmaps in self.nodes.items()}
        try:
            for action in arguments["actions"]:
                if action["type"] == "abort":
                    raise _Refused("Transaction aborted using Abort action")
                self._change_bitmap(action["type"].removeprefix("block-dirty-bitmap-"), action["data"])
        except _Refused:
            self.nodes = before
            raise
        return Told()

    # Jobs

    @staticmethod
    def _states(name: str, *states: str) -> tuple[Event, ...]:
        return tuple(("JOB_STATUS_CHANGE", json.dumps({"status": state, "id": name})) for state in states)

    @staticmethod
    def _ended(name: str, how: str) -> Event:
        return how, json.dumps({"device": name, "len": 0, "offset": 0, "speed": 0, "type": "stream"})

    def _gone(self, name: str) -> tuple[Event, ...]:
        if self.jobs[name].dismissed:
            del self.jobs[name]
            return self._states(name, "concluded", "null")
        self.jobs[name].state = "concluded"
        return self._states(name, "concluded")

    def _block_stream(self, arguments: dict[str, Any]) -> Told:
        name, node = arguments["job-id"], arguments["device"]
        if self._working(node):
            raise _Refused(f"Node '{node}' is busy: block device is in use by block job: stream")
        if name in self.jobs:
            raise _Refused(f"Job ID '{name}' already in use")
        above = frozenset(each for each, (used, _) in self.exports.items() if used == node)
        self.jobs[name] = Job(node, "pending", arguments["auto-dismiss"], above)
        began, went_on = self._states(name, "created", "running"), self._states(name, "waiting", "pending")
        if arguments["auto-finalize"]:
            went_on += (self._ended(name, "BLOCK_JOB_COMPLETED"), *self._gone(name))
        else:
            went_on += (("BLOCK_JOB_PENDING", json.dumps({"type": "stream", "id": name})),)
        return Told(began, after=went_on) if self.old else Told(began + went_on)

    def _find(self, name: str, verb: str, state: str) -> None:
        job = self.jobs.get(name)
        if job is None:
            raise _Refused("Job not found")
        if job.state != state:
            raise _Refused(f"Job '{name}' in state '{job.state}' cannot accept command verb '{verb}'")

    def _job_finalize(self, arguments: dict[str, Any]) -> Told:
        name = arguments["id"]
        self._find(name, "finalize", "pending")
        return Told((self._ended(name, "BLOCK_JOB_COMPLETED"), *self._gone(name)))

    def _job_cancel(self, arguments: dict[str, Any]) -> Told:
        name = arguments["id"]
        self._find(name, "cancel", "pending")
        return Told((*self._states(name, "aborting"), self._ended(name, "BLOCK_JOB_CANCELLED"), *self._gone(name)))

    def _job_dismiss(self, arguments: dict[str, Any]) -> Told:
        name = arguments["id"]
        self._find(name, "dismiss", "concluded")
        del self.jobs[name]
        return Told(self._states(name, "null"))

    # Exports

    def _nbd_server_start(self, arguments: dict[str, Any]) -> Told:
        if self.serving:
            raise _Refused("NBD server already running")
        self.serving = True
        return Told()

    def _nbd_server_stop(self, arguments: dict[str, Any]) -> Told:
        if not self.serving:
            raise _Refused("NBD server not running")
        self.serving = False
        return Told(tuple(self._deleted(name) for name in self._in_order()))

    # Whether several exports that end together are told of newest first.
    newest_first: bool = False

    def _in_order(self) -> list[str]:
        names = list(self.exports)
        return names[::-1] if self.newest_first else names

    def _deleted(self, name: str) -> Event:
        del self.exports[name]
        return "BLOCK_EXPORT_DELETED", json.dumps({"id": name})

    def _block_export_add(self, arguments: dict[str, Any]) -> Told:
        name, node = arguments["id"], arguments["node-name"]
        if name in self.exports:
            raise _Refused(f"Block export id '{name}' is already in use")
        if not self.serving:
            raise _Refused("NBD server not running")
        for bitmap in arguments["bitmaps"]:
            if bitmap not in self.nodes[node]:
                raise _Refused(f"Bitmap '{bitmap}' is not found")
            if self._busy(node, bitmap):
                raise _Refused(BUSY.format(bitmap))
        self.exports[name] = node, tuple(arguments["bitmaps"])
        return Told()

    def _block_export_del(self, arguments: dict[str, Any]) -> Told:
        name = arguments["id"]
        if name not in self.exports:
            raise _Refused(f"Export '{name}' is not found")
        told = (self._deleted(name),)
        return Told(after=told) if self.old else Told(told)
