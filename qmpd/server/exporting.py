"""The NBD server: its sockets, and a task for each connection.  What is said there is in `qmpd.block.exports`.

A connection costs no other client anything: it reads only as long as not too much of its is under way, and is closed
as soon as it does not speak the protocol.
"""

from __future__ import annotations

import contextlib
import math
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import trio

from qmpd.block.exports.negotiation import Event, Negotiation
from qmpd.block.exports.protocol import LONGEST_REQUEST
from qmpd.block.exports.service import Service
from qmpd.block.exports.transmission import BrokenProtocol, Transmission
from qmpd.server import log
from qmpd.server.encryption import server_context
from qmpd.server.places import listen_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qmpd.block.exports.exports import Export, Server
    from qmpd.block.exports.transmission import Request
    from qmpd.system.system import System

    class ExportingMachine(Protocol):
        """Whoever serves the machine."""

        nursery: trio.Nursery

        @property
        def system(self) -> System:
            """The machine."""

_LOST = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
"""What a connection fails with whose client is gone."""
_CHUNK = 1 << 18
_MOST_REQUESTS, _MOST_BYTES = 16, 64 << 20
"""So much of one connection is under way at once; more is read once something is done."""


class NbdServer:
    """Listens at one address until it is closed (`qmpd.block.exports.exports.Listening`)."""

    def __init__(self, vm: ExportingMachine, address: Mapping[str, Any]) -> None:
        """:raise Refusal: the address cannot be had."""
        self._vm = vm
        self._listener = listen_at(address)
        self._connections: set[_Connection] = set()
        self._left = trio.Event()
        vm.nursery.start_soon(self._accept)

    def close(self) -> None:
        """Listen no more, and close all connections."""
        self._listener.remove()
        for connection in list(self._connections):
            connection.throw_out()

    async def _accept(self) -> None:
        while (accepted := await self._listener.accept("an NBD client", before=self._until_free)) is not None:
            server = self._vm.system.exports.server
            if server is None:
                accepted[0].close()
                return
            connection = _Connection(self._vm, accepted[0], server)
            self._connections.add(connection)
            self._vm.nursery.start_soon(self._serve, connection)

    async def _until_free(self) -> None:
        """Wait until one more client may be served."""
        while (server := self._vm.system.exports.server) is not None:
            if not server.limit or len(self._connections) < server.limit:
                return
            await self._left.wait()

    async def _serve(self, connection: _Connection) -> None:
        try:
            await connection.run()
        except Exception as error:
            # Whatever is wrong with one client, the others are served.
            log.defect("an NBD client is turned away: qmpd failed at serving it, a defect of qmpd", error)
        finally:
            self._connections.discard(connection)
            self._left.set()
            self._left = trio.Event()


class FrontEnds:
    """A socket for what is not modelled: whoever connects is turned away."""

    def __init__(self, vm: ExportingMachine, address: Mapping[str, Any], name: str) -> None:
        """:raise Refusal: the address cannot be had."""
        self._name = name
        self._listener = listen_at(address)
        vm.nursery.start_soon(self._accept)

    def close(self) -> None:
        """Listen no more."""
        self._listener.remove()

    async def _accept(self) -> None:
        while (accepted := await self._listener.accept(f"a front end of {self._name}")) is not None:
            log.error(f"qmpd does not model vhost-user: a front end of the export '{self._name}' is turned away")
            accepted[0].close()


class _Connection:
    """One client (`qmpd.block.exports.exports.Client`)."""

    def __init__(self, vm: ExportingMachine, client: socket.socket, server: Server) -> None:
        self._vm = vm
        self._socket = client
        self._server = server
        self._scope = trio.CancelScope()
        self._export: Export | None = None
        # What is to be sent, and how much is under way; both change in the main loop, too.
        self._owed: deque[bytes] = deque()
        self._requests = 0
        self._bytes = 0
        self._changed = trio.Event()

    def throw_out(self) -> None:
        """Close it."""
        self._scope.cancel()
        if self._export is not None and self in self._export.clients:
            self._export.clients.remove(self)

    async def run(self) -> None:
        """Serve it until it leaves or is thrown out."""
        stream: trio.abc.Stream = trio.SocketStream(trio.socket.from_stdlib_socket(self._socket))
        try:
            with self._scope:
                negotiated = await self._negotiate(stream)
                if negotiated is not None:
                    await self._transmit(*negotiated)
        except _LOST:
            pass  # it is gone
        finally:
            self._socket.close()
            self._leave()

    def _leave(self) -> None:
        export = self._export
        if export is not None and self in export.clients:
            export.clients.remove(self)
            self._vm.system.exports.left(export)

    # The negotiation

    async def _negotiate(self, stream: trio.abc.Stream) -> tuple[trio.abc.Stream, Negotiation] | None:
        with trio.move_on_after(self._server.patience or math.inf) as scope:
            negotiated = await self._agree(stream)
        return None if scope.cancelled_caught else negotiated

    async def _agree(self, stream: trio.abc.Stream) -> tuple[trio.abc.Stream, Negotiation] | None:
        extended = self._vm.system.release.behaviour.nbd_extended_headers
        tls = self._server.credentials is not None
        negotiation = Negotiation(self._vm.system.exports, tls=tls, extended=extended)
        while True:
            event = negotiation.next_event()
            if event is Event.CHOSEN and not self._begin_to_use(negotiation):
                return None
            owed = negotiation.take()
            if owed:
                await stream.send_all(owed)
            if event is Event.CHOSEN:
                return stream, negotiation
            if event is Event.HANG_UP:
                return None
            if event is Event.START_TLS:
                stream = await self._encrypt(stream)
                negotiation.tls_started()
                continue
            data = await stream.receive_some(_CHUNK)
            if not data:
                return None
            negotiation.receive(bytes(data))

    async def _encrypt(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        assert self._server.credentials is not None
        context = server_context(self._server.credentials)
        encrypted = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await encrypted.do_handshake()
        self._check_authorized(encrypted)
        return encrypted

    def _check_authorized(self, encrypted: trio.SSLStream[Any]) -> None:
        """:raise BrokenResourceError: the client may not connect."""
        if self._server.authorization is None:
            return
        identifier = self._server.authorization
        node = self._vm.system.tree.find(f"/objects/{identifier}")
        if node is not None and node.type == "authz-simple":
            if _name_of(encrypted.getpeercert()) == node.value("identity"):
                return
        elif node is not None:
            log.error(f"nbd-server: qmpd does not model {node.type}: the client is refused")
        raise trio.BrokenResourceError

    # The transmission

    def _begin_to_use(self, negotiation: Negotiation) -> bool:
        """The export has this client from now on, before the client knows; whether the export is still there."""
        agreement = negotiation.agreement
        assert agreement is not None
        export = self._vm.system.exports.offer(agreement.offer.name)
        if export is None or export is not agreement.offer:
            return False
        self._export = export
        export.clients.append(self)
        return True

    async def _transmit(self, stream: trio.abc.Stream, negotiation: Negotiation) -> None:
        assert self._export is not None
        assert negotiation.agreement is not None
        system = self._vm.system
        transmission = Transmission(negotiation.agreement, negotiation.rest())
        service = Service(system.exports, self._export, system.disks.requests, transmission)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, stream)
            with contextlib.suppress(BrokenProtocol, *_LOST):
                await self._receive(stream, transmission, service)
            nursery.cancel_scope.cancel()

    async def _receive(self, stream: trio.abc.Stream, transmission: Transmission, service: Service) -> None:
        while True:
            while (request := transmission.next_request()) is not None:
                self._requests += 1
                self._bytes += min(request.length, LONGEST_REQUEST)
                self._begin(service, request)
                while self._requests >= _MOST_REQUESTS or self._bytes >= _MOST_BYTES:
                    await self._changed.wait()
            data = await stream.receive_some(_CHUNK)
            if not data:
                return
            transmission.receive(bytes(data))

    def _begin(self, service: Service, request: Request) -> None:
        def reply(parts: Iterable[bytes]) -> None:
            self._owed.extend(parts)
            self._requests -= 1
            self._bytes -= min(request.length, LONGEST_REQUEST)
            self._changed.set()
            self._changed = trio.Event()

        # The machine's main loop alone touches the disks.
        self._vm.system.machine.later(lambda: service.begin(request, reply))

    async def _send(self, stream: trio.abc.Stream) -> None:
        while True:
            while not self._owed:
                await self._changed.wait()
            try:
                await stream.send_all(self._owed.popleft())
            except _LOST:
                self._scope.cancel()


def _name_of(certificate: Any) -> str:
    """The distinguished name of a certificate's subject."""
    names = {"commonName": "CN", "organizationName": "O", "countryName": "C", "localityName": "L",
             "stateOrProvinceName": "ST", "organizationalUnitName": "OU"}  # fmt: skip
    subject = certificate.get("subject", ()) if certificate else ()
    pairs = [f"{names.get(key, key)}={value}" for part in subject for key, value in part]
    return ",".join(reversed(pairs))
