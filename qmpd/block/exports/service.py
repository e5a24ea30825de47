"""Carrying out what an export's clients ask for: the way of each request through the node, and its reply."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from qmpd.block.content import number_of
from qmpd.block.exports.bitmaps import extents
from qmpd.block.exports.protocol import BASE, DEPTH, Command, Flag
from qmpd.block.exports.status import allocation, depths, joined
from qmpd.block.exports.transmission import MOST_EXTENTS
from qmpd.block.requests import Request as DiskRequest
from qmpd.block.status import parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qmpd.block.executor import Outcome
    from qmpd.block.exports.exports import Export, Exports
    from qmpd.block.exports.status import Extents
    from qmpd.block.exports.transmission import Request, Transmission
    from qmpd.block.requests import Requests

    Reply = Callable[[Iterable[bytes]], None]

_KINDS = {
    Command.READ: "read", Command.CACHE: "read", Command.WRITE: "write", Command.FLUSH: "flush",
    Command.TRIM: "discard", Command.WRITE_ZEROES: "zero",
}  # fmt: skip


class Service:
    """Carries out the requests of one client of an export; in the machine's main loop."""

    __slots__ = ("_export", "_exports", "_requests", "_transmission")

    def __init__(self, exports: Exports, export: Export, requests: Requests, transmission: Transmission) -> None:
        self._exports = exports
        self._export = export
        self._requests = requests
        self._transmission = transmission

    def begin(self, request: Request, reply: Reply) -> None:
        """Begin a request; `reply` is given what is to be sent once it is done, or has failed."""
        export, transmission = self._export, self._transmission
        if export.is_gone or export.shutting_down:
            reply([transmission.failed(request, errno.ESHUTDOWN)])
            return
        refused = transmission.refusal(request, export.flags)
        if refused is not None:
            reply([transmission.failed(request, *refused)])
            return
        export.in_flight += 1
        if request.command == Command.BLOCK_STATUS:
            self._look(request, reply)
            return
        through = bool(request.flags & Flag.FUA) and request.command not in (Command.READ, Command.CACHE)
        self._requests.submit(
            export.user, export.node,
            DiskRequest(
                _KINDS[Command(request.command)], request.offset, request.length,
                data=request.data if request.command == Command.WRITE else None,
                unmap=not request.flags & Flag.NO_HOLE, counted=False, guarded=False, through=through,
                then=lambda done: self._done(request, done, reply),
            ),
        )  # fmt: skip

    def _done(self, request: Request, done: DiskRequest, reply: Reply) -> None:
        transmission = self._transmission
        if done.error:
            reply([transmission.failed(request, done.error)])
        elif request.command == Command.READ:
            reply(transmission.was_read(request, done.data or b""))
        else:
            reply([transmission.done(request)])
        self._ended()

    def _ended(self) -> None:
        self._export.in_flight -= 1
        self._exports.left(self._export)

    # Block status

    def _look(self, request: Request, reply: Reply) -> None:
        def done(outcome: Outcome) -> None:
            if outcome.error is not None:
                reply([self._transmission.failed(request, number_of(outcome.error))])
            else:
                reply(self._transmission.status(request, outcome.value))
            self._ended()

        self._requests.executor.do(lambda: self._status(request), done)

    def _status(self, request: Request) -> list[tuple[int, Extents]]:
        most = 1 if request.flags & Flag.REQ_ONE else MOST_EXTENTS
        contexts = self._export.contexts
        return [
            (number, joined(self._extents(contexts[number], request), most))
            for number in request.contexts
        ]

    def _extents(self, context: str, request: Request) -> Iterable[tuple[int, int]]:
        export, offset, length = self._export, request.offset, request.length
        if context == BASE:
            return allocation(parts(export.node, offset, length))
        if context == DEPTH:
            return depths(parts(export.node, offset, length))
        bitmap = next(each for each in export.bitmaps if context.endswith(f":{each.name}"))
        return extents(bitmap, offset, length)
