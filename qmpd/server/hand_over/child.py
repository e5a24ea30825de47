"""The child's side of a live update: a process that takes a machine over from the one that started it.

It is started by `qmpd.server.hand_over.parent`, with the number of the descriptor on which its parent talks to it;
what is said is written there.  Before it says that it is ready it has done all that it will do, on a clone: what
is imported, compiled and read from files then is not waited for when the machine stands still.
"""

from __future__ import annotations

import contextlib
import gc
import socket
from importlib import import_module
from typing import TYPE_CHECKING, Any

import trio

from qmpd.common.plain import from_plain
from qmpd.machine.live_update import LiveUpdate, UpdateStage
from qmpd.qapi.errors import ArgumentError
from qmpd.server import log, signals
from qmpd.server.hand_over import frames, snapshot
from qmpd.server.serve import clean_up, depart, serve_process, terminate
from qmpd.server.settings import VMSettings
from qmpd.server.virtual_machine import VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.server.connection import Connection
    from qmpd.server.listener import Listener
    from qmpd.server.settings import MonitorSettings


class Refusal(Exception):  # noqa: N818 - it says what this process does
    """This process cannot take over; the text says why."""


class InheritedMachine(VirtualMachine):
    """A machine that another process has run so far: its clients are connected, and it has started."""

    __slots__ = ("_channel", "_clients", "entries", "update")

    def __init__(self, settings: VMSettings, channel: socket.socket) -> None:
        """`channel` is the socket on which the parent talks."""
        super().__init__(settings)
        self._channel = channel
        self._clients: list[tuple[MonitorSettings, Connection]] = []
        # What was in the transcript when the clone was made.
        self.entries: list[tuple[Any, ...]] = []
        self.update = LiveUpdate(self.dispatcher.machine)

    def inherit(self, state: dict[str, Any], descriptors: list[int]) -> None:
        """Become what the parent has handed over, short of touching a client's socket.

        :raise OSError: the pid file cannot be written.
        """
        self.update.enter(UpdateStage.CHILD_COMMIT)
        if state.get("goes_on"):
            state["entries"] = self.entries + state["entries"]
        self._clients = snapshot.put(self, state, descriptors)
        if self.pid_file is not None:
            try:
                self.pid_file.write()
            except OSError as error:
                raise Refusal(f"{self.pid_file.path}: {error.strerror}") from None

    async def _begin(self, on_start: Callable[[], None] | None) -> None:
        """Take the first turn, tell the parent, and only then go to the clients."""
        self.started = True
        self.update.enter(UpdateStage.NONE)
        if self.dispatcher.machine.pending:
            self.dispatcher.turn()
        frames.send(self._channel, {"kind": "serving"})
        self.nursery.start_soon(self._listen_to_parent)
        if self.devices is not None:
            self.nursery.start_soon(self.devices.run)
        exclusive = [connection for monitor, connection in self._clients if monitor.exclusive]
        for monitor, connection in self._clients:
            if not monitor.exclusive:
                self.nursery.start_soon(self.acceptor.serve, connection)
        for monitor, listener in self.listeners:
            client = next((connection for each, connection in self._clients if each is monitor), None)
            if client in exclusive:
                self.nursery.start_soon(self._serve_then_accept, monitor, listener, client)
            elif listener.socket.fileno() != -1:
                self.acceptor.start(monitor, listener)
        self._clients.clear()

    async def _serve_then_accept(self, monitor: MonitorSettings, listener: Listener, client: Connection) -> None:
        await self.acceptor.serve(client)
        await self.acceptor.accept(monitor, listener)

    async def _listen_to_parent(self) -> None:
        """Take the signals that still reach the parent, until it has ended."""
        channel = self._channel
        channel.setblocking(False)
        try:
            while True:
                message = await frames.receive_soon(channel)
                terminate(self, message["signal"])
        except (OSError, frames.Disconnected, frames.BadFrame):
            trio.lowlevel.notify_closing(channel)
            channel.close()


def main(arguments: list[str]) -> int:
    """Take over by way of the descriptor whose number is the only argument; the result is the exit status."""
    signals.block()
    channel = socket.socket(fileno=int(arguments[0]))
    channel.set_inheritable(False)
    try:
        return trio.run(_take_over, channel)
    except (frames.Disconnected, ConnectionError):
        return 1  # the parent is gone, or has no more use for this process


async def _take_over(channel: socket.socket) -> int:
    try:
        vm = prepare(channel)
        received = commit(channel, vm)
    except (frames.Disconnected, ConnectionError):
        raise
    except (Refusal, frames.BadFrame) as error:
        frames.send(channel, {"kind": "refused", "reason": str(error)})
        return 1
    except Exception as error:
        # Whatever is wrong with this process, its parent has to know, and goes on.
        frames.send(channel, {"kind": "refused", "reason": f"it fails with {error!r}"})
        return 1
    try:
        return depart(await serve_process(vm, received))
    finally:
        clean_up(vm)


def prepare(channel: socket.socket) -> InheritedMachine:
    """Take in the clone and practise on it; the result is the machine that is to be taken over.

    :raise Refusal: this program is not made for it.
    :raise Disconnected: the parent is gone.
    """
    message, _ = frames.receive(channel)
    if message.get("format") != frames.FORMAT:
        raise Refusal(f"it knows format {frames.FORMAT}, not {message.get('format')}")
    log.level, log.name = message["log"]
    settings = from_plain(VMSettings, message["settings"])
    vm = InheritedMachine(settings, channel)
    vm.update.enter(UpdateStage.CHILD_PREPARE)
    # What is done for the first time takes longer: imports, tables that are built when they are asked for.
    import_module("qmpd.server.hand_over.parent")
    while (piece := frames.receive(channel)[0])["kind"] == "entries":
        vm.entries += piece["entries"]
    snapshot.put(InheritedMachine(settings, channel), message["state"], None)
    for name in message["commands"]:
        entry = vm.dispatcher.commands[name]
        if entry is not None:
            with contextlib.suppress(ArgumentError):
                entry.check({})
    gc.collect()
    gc.freeze()
    vm.update.enter(UpdateStage.CHILD_READY)
    frames.send(channel, {"kind": "complete"})
    return vm


def commit(channel: socket.socket, vm: InheritedMachine) -> list[signals.Signal]:
    """Wait for the word and take everything in; the result is the signals that came meanwhile.

    :raise Refusal: this process cannot take over.
    :raise Disconnected: the parent is gone, or has given up.
    """
    message, descriptors = frames.receive(channel)
    gc.disable()
    vm.inherit(message["state"], descriptors)
    frames.send(channel, {"kind": "standing"})
    message, _ = frames.receive(channel)
    # Those sent to this process are either meant for the parent as well (from a terminal), or came too early.
    signals.forget()
    gc.enable()
    return list(message["signals"])
