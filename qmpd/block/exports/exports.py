"""The exports of one machine: which there are, who uses them, and how they end.  (QEMU's block/export/export.c.)

An export uses its node as a device does: it reads, and writes where it is writable; nobody may resize the node while
it is there.  It ends when it is deleted, when the NBD server stops, or with the machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.block.activation import take_back_one
from qmpd.block.exports import protocol
from qmpd.block.files import ALL, READ, RESIZE, WRITE
from qmpd.block.nodes import Drive
from qmpd.common.identifiers import is_identifier
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qmpd.block.bitmaps.bitmap import DirtyBitmap
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode


class Client(Protocol):
    """A connection that uses an export."""

    def throw_out(self) -> None:
        """Close it."""


class Listening(Protocol):
    """The sockets of the NBD server."""

    def close(self) -> None:
        """Listen no more, and close all connections."""


class Home(Protocol):
    """The machine that has the exports."""

    def export_deleted(self, identifier: str) -> None:
        """Tell that an export has ended (BLOCK_EXPORT_DELETED)."""

    def later(self, action: Callable[[], None]) -> None:
        """Do something once the command's reply is out."""

    def settle(self) -> None:
        """Wait until what is read and written is done, for a while."""


class _User(Drive):
    """An export as the user of its node: QEMU's BlockBackend without a device."""

    keeps_inactive = False
    """Whether its node may be another machine's, which it does not use then."""

    @property
    def does(self) -> int:
        """It reads, and may write."""
        if self.keeps_inactive and self.node is not None and self.node.inactive:
            return 0
        return READ | (WRITE if self.writes else 0)

    @property
    def keeps_active(self) -> bool:
        """Who may write to it needs it."""
        return self.writes and not self.keeps_inactive

    @property
    def allows(self) -> int:
        """Others may do all but resize."""
        return ALL & ~RESIZE


@dataclass(slots=True, eq=False)
class Export:
    """An export.  `identifier` is what monitors call it, `name` what clients do.

    `in_flight` counts requests that are not done.
    """

    identifier: str
    name: str
    user: Drive
    kind: str = "nbd"
    description: str = ""
    writable: bool = False
    writethrough: bool = False
    multiple: bool = False
    tells_depth: bool = False
    bitmaps: tuple[DirtyBitmap, ...] = ()
    clients: list[Client] = field(default_factory=list)
    in_flight: int = 0
    shutting_down: bool = False
    # The drive that it ends with, and what does that.
    follows: tuple[Drive, Callable[[], None]] | None = None
    # Its own sockets, where it is not the NBD server that has them.
    listening: Listening | None = None

    @property
    def node(self) -> BlockNode:
        """The node that it is of; that changes when an image is put on top of it."""
        assert self.user.node is not None
        return self.user.node

    @property
    def is_gone(self) -> bool:
        """Whether it has ended."""
        return self.user.node is None

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return 0 if self.is_gone else self.node.virtual_size

    @property
    def flags(self) -> int:
        """What clients can do with it."""
        flags = protocol.Export
        told = flags.HAS_FLAGS | flags.SEND_FLUSH | flags.SEND_FUA | flags.SEND_CACHE
        if self.multiple:
            told |= flags.CAN_MULTI_CONN
        if self.writable:
            return told | flags.SEND_TRIM | flags.SEND_WRITE_ZEROES | flags.SEND_FAST_ZERO
        return told | flags.READ_ONLY

    @property
    def alignment(self) -> int:
        """What offsets and lengths have to be multiples of."""
        return 1

    @property
    def contexts(self) -> Sequence[str]:
        """The contexts of its block status."""
        return (
            protocol.BASE,
            *((protocol.DEPTH,) if self.tells_depth else ()),
            *(f"{protocol.BITMAP}{each.name}" for each in self.bitmaps),
        )

    def describe(self) -> dict[str, Any]:
        """QAPI's BlockExportInfo."""
        return {
            "id": self.identifier, "type": self.kind, "node-name": "" if self.is_gone else self.node.name,
            "shutting-down": self.shutting_down,
        }  # fmt: skip


@dataclass(slots=True)
class Server:
    """The NBD server.  `limit` is how many clients it serves at once, 0 without limit.

    `patience` is how many seconds a client has to negotiate, 0 without limit; `credentials` are the properties of the
    object with its TLS credentials, `authorization` the id of the object that says who may connect.
    """

    limit: int = 0
    patience: int = 0
    credentials: dict[str, Any] | None = None
    authorization: str | None = None
    listening: Listening | None = None


@dataclass(slots=True, frozen=True)
class Rules:
    """How a release differs here (`qmpd.qapi.behaviour.Behaviour`)."""

    deleted_after_reply: bool = False
    newest_end_first: bool = True
    shared_when_writable: bool = True


class Exports:
    """All exports of one machine, and its NBD server."""

    __slots__ = ("_exports", "_graph", "_home", "_rules", "server")

    def __init__(self, graph: BlockGraph, home: Home, rules: Rules) -> None:
        self._graph = graph
        self._home = home
        self._rules = rules
        self._exports: dict[str, Export] = {}
        self.server: Server | None = None

    # Looking

    @property
    def is_idle(self) -> bool:
        """Whether there is neither a server nor an export."""
        return self.server is None and not self._exports

    def newest_first(self) -> list[Export]:
        """All exports, the newest first."""
        return list(reversed(self._exports.values()))

    def offers(self) -> Iterable[Export]:
        """Those that NBD's clients can have (`qmpd.block.exports.negotiation.Catalogue`)."""
        return [each for each in self._exports.values() if each.kind == "nbd" and not each.shutting_down]

    def offer(self, name: str) -> Export | None:
        """The one that clients call so."""
        return next((each for each in self.offers() if each.name == name), None)

    def find(self, identifier: str) -> Export:
        """The export of this id.

        :raise Refusal: there is none.
        """
        export = self._exports.get(identifier)
        if export is None:
            raise Refusal("nbd-export-missing", id=identifier)
        return export

    # The server

    def check_stopped(self) -> None:
        """:raise Refusal: the server runs."""
        if self.server is not None:
            raise Refusal("nbd-server-running")

    def check_running(self) -> None:
        """:raise Refusal: the server does not run."""
        if self.server is None:
            raise Refusal("nbd-server-none")

    def stop(self) -> None:
        """Stop the server, and end all that it exports.

        :raise Refusal: it does not run.
        """
        self.check_running()
        assert self.server is not None
        server, self.server = self.server, None
        if server.listening is not None:
            server.listening.close()
        self._end([each for each in self._exports.values() if each.kind == "nbd"])

    def end_all(self) -> None:
        """The machine ends."""
        self._end(list(self._exports.values()))
        if self.server is not None:
            self.stop()

    def close(self) -> None:
        """Close all sockets, and tell nobody: the process ends as if it were killed."""
        for each in (self.server, *self._exports.values()):
            if each is not None and each.listening is not None:
                each.listening.close()

    def _end(self, exports: list[Export]) -> None:
        if not exports:
            return
        for export in exports:
            self._shut_down(export)
        if any(export.in_flight for export in exports):
            self._home.settle()
        for export in reversed(exports) if self._rules.newest_end_first else exports:
            self._forget(export)

    # Exports

    def check_new(self, identifier: str, node_name: str, *, writable: bool) -> BlockNode:
        """Refuse what no kind of export could be; gives the node.

        :raise Refusal: the id is none or is taken, there is no such node, or it cannot be written.
        """
        if not is_identifier(identifier):
            raise Refusal("export-id-invalid")
        if identifier in self._exports:
            raise Refusal("export-id-taken", id=identifier)
        node = self._graph.find_node(node_name)
        if node.read_only and writable:
            raise MachineError("Cannot export read-only node as writable")
        return node

    def use(
        self, node: BlockNode, kind: str, *, writable: bool, writethrough: bool = False, keeps_inactive: bool = False
    ) -> Drive:
        """What a new export of this kind has of its node, which is this machine's from now on, unless it `keeps` that.

        :raise Refusal: others use the node in a way that excludes that, or exports of this kind keep none.
        """
        if keeps_inactive and kind != "nbd":
            raise Refusal("export-inactive")
        if node.inactive and not keeps_inactive:
            take_back_one(self._graph, node)
        user = _User("", node=node, writes=writable, writeback=not writethrough)
        user.keeps_inactive = keeps_inactive
        self._graph.take(user)
        return user

    def add_nbd(self, export: Export, *, bitmaps: Callable[[], tuple[DirtyBitmap, ...]]) -> None:
        """Export something over NBD; `bitmaps` finds those that it tells of.

        :raise Refusal: the server does not run, or the export's name cannot be had; the node is let go then.
        """
        try:
            self._check_nbd(export)
            export.multiple = self._is_shared(export)
            export.bitmaps = bitmaps()
        except Refusal:
            self._graph.leave(export.user)
            raise
        self._exports[export.identifier] = export

    def follow(self, export: Export, drive: Drive) -> None:
        """Let an export end when what is in a drive is taken out."""
        export.follows = drive, partial(self.delete, export, hard=True)
        drive.leaving.append(export.follows[1])

    def add(self, export: Export) -> None:
        """Have an export of another kind."""
        self._exports[export.identifier] = export

    def _check_nbd(self, export: Export) -> None:
        self.check_running()
        if len(export.name.encode("utf-8", "surrogateescape")) > protocol.LONGEST_STRING:
            raise Refusal("export-name-long", text=export.name)
        if len(export.description.encode("utf-8", "surrogateescape")) > protocol.LONGEST_STRING:
            raise Refusal("export-description-long", text=export.description)
        if any(each.name == export.name for each in self._exports.values() if each.kind == "nbd"):
            raise Refusal("export-name-taken", name=export.name)

    def _is_shared(self, export: Export) -> bool:
        """Whether several connections of one client see each other's writes."""
        assert self.server is not None
        return self.server.limit != 1 and (not export.writable or self._rules.shared_when_writable)

    def delete(self, export: Export, *, hard: bool) -> None:
        """End an export; `hard`: also where somebody uses it, who is thrown out.

        :raise Refusal: somebody uses it.
        """
        busy = bool(export.clients or export.in_flight)
        if busy and not hard:
            raise Refusal("export-in-use", id=export.identifier)
        self._shut_down(export)
        if busy or self._rules.deleted_after_reply:
            self._home.later(lambda: self._finish(export))
        else:
            self._forget(export)

    def _shut_down(self, export: Export) -> None:
        export.shutting_down = True
        for client in list(export.clients):
            client.throw_out()

    def left(self, export: Export) -> None:
        """A client has left, or a request is done: one that is to end may be ready for it."""
        if export.shutting_down:
            self._finish(export)

    def _finish(self, export: Export) -> None:
        if not export.clients and not export.in_flight:
            self._forget(export)

    def _forget(self, export: Export) -> None:
        if self._exports.get(export.identifier) is not export:
            return
        del self._exports[export.identifier]
        if export.follows is not None:
            drive, leave = export.follows
            drive.leaving.remove(leave)
        for bitmap in export.bitmaps:
            bitmap.busy = False
        self._graph.leave(export.user)
        if export.listening is not None:
            export.listening.close()
        self._home.export_deleted(export.identifier)
