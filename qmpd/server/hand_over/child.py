"""The child's side of a live update: a process that takes a machine over from the one that started it.

It is started by `qmpd.server.hand_over.parent`, with the number of the descriptor on which its parent talks to it;
what is said is written there.  Before it says that it is ready it has done all that it will do, on a clone: what
is imported, compiled and read from files then is not waited for when the machine stands still.
"""

from __future__ import annotations

import contextlib
import gc
import os
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

    from qmpd.control.recorder import KeptEntries
    from qmpd.server.connection import Connection
    from qmpd.server.listener import Listener
    from qmpd.server.settings import MonitorSettings


class Refusal(Exception):  # noqa: N818 - it says what this process does
    """This process cannot take over; the text says why."""


class InheritedMachine(VirtualMachine):
    """A machine that another process has run so far: its clients are connected, and it has started."""

    __slots__ = ("_channel", "_clients", "_entries", "_incoming", "update")

    def __init__(self, settings: VMSettings, channel: socket.socket) -> None:
        """`channel` is the socket on which the parent talks."""
        super().__init__(settings)
        self._channel = channel
        self._incoming = frames.Incoming(frames.LARGEST_ANSWER)
        self._clients: list[tuple[MonitorSettings, Connection]] = []
        # What is known of the transcript; None where nobody writes one.
        self._entries: KeptEntries | None = None
        self.update = LiveUpdate(self.system.machine)

    def inherit(self, state: dict[str, Any], descriptors: list[int]) -> None:
        """Become what the parent has handed over, short of touching a client's socket.

        :raise OSError: the pid file cannot be written.
        """
        self.update.enter(UpdateStage.CHILD_COMMIT)
        self.started = True
        self._clients = snapshot.put(self, state, descriptors)
        if self.puppeteer is not None:
            if not state["goes_on"]:
                self._entries = None
            entries = self.take_entries(state["entries"])
            self.puppeteer.recorder.restore(state["puppeteer"]["number"], entries)
        if self.pid_file is not None:
            try:
                self.pid_file.write()
            except OSError as error:
                raise Refusal(f"{self.pid_file.path}: {error.strerror}") from None

    def take_entries(self, entries: list[list[Any]]) -> KeptEntries:
        """Know of these entries of the transcript as well; all that are known."""
        from qmpd.control.recorder import KeptEntries
        from qmpd.control.snapshot import put_entries

        if self._entries is None:
            self._entries = KeptEntries()
        self._entries.extend(put_entries(entries))
        return self._entries

    async def _begin(self, on_start: Callable[[], None] | None) -> None:
        """Take the first turn, tell the parent, and go to the clients when it leaves them."""
        self.update.enter(UpdateStage.NONE)
        if self.system.machine.pending:
            self.system.turn()
        frames.Channel(self._channel).send({"kind": "serving"})
        await self._until_parent_leaves()
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

    async def _until_parent_leaves(self) -> None:
        self._channel.setblocking(False)
        try:
            message = await self._incoming.message(self._channel)
        except (OSError, frames.Disconnected, frames.BadFrame):
            message = {"kind": "nothing"}
        if message["kind"] != "yours":
            # It goes on by itself, or is gone: nothing that it has made may be taken away.
            os._exit(1)

    async def _listen_to_parent(self) -> None:
        """Take the signals that still reach the parent, until it has ended."""
        channel = self._channel
        try:
            while True:
                message = await self._incoming.message(channel)
                number, sender = message["signal"]
                terminate(self, (int(number), int(sender)))
        except (OSError, frames.Disconnected):
            pass
        except Exception as error:
            log.error(f"what the process before this one says cannot be understood: {error}")
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
    parent = frames.Channel(channel)
    try:
        vm = prepare(parent, channel)
        received = commit(parent, vm)
    except (frames.Disconnected, ConnectionError):
        raise
    except (Refusal, frames.BadFrame) as error:
        parent.send({"kind": "refused", "reason": str(error)})
        return 1
    except Exception as error:
        # Whatever is wrong with this process, its parent has to know, and goes on.
        parent.send({"kind": "refused", "reason": f"it fails with {error!r}"})
        return 1
    log.never_wait()
    try:
        return depart(await serve_process(vm, received))
    finally:
        clean_up(vm)
        log.finish()


def prepare(parent: frames.Channel, channel: socket.socket) -> InheritedMachine:
    """Take in the clone and practise on it; the result is the machine that is to be taken over.

    :raise Refusal: this program is not made for it.
    :raise Disconnected: the parent is gone.
    :raise BadFrame: what it says cannot be understood.
    """
    message, _ = parent.receive()
    if message.get("format") != frames.FORMAT:
        raise Refusal(f"it knows format {frames.FORMAT}, not {message.get('format')}")
    log.level, log.name = message["log"]
    settings = from_plain(VMSettings, message["settings"])
    vm = InheritedMachine(settings, channel)
    vm.update.enter(UpdateStage.CHILD_PREPARE)
    # What is done for the first time takes longer: imports, tables that are built when they are asked for.
    import_module("qmpd.server.hand_over.parent")
    snapshot.put(InheritedMachine(settings, channel), message["state"], None, locked=False)
    for name in message["commands"]:
        entry = vm.dispatcher.commands[name]
        if entry is not None:
            with contextlib.suppress(ArgumentError):
                entry.check({})
    gc.collect()
    gc.freeze()
    vm.update.enter(UpdateStage.CHILD_READY)
    parent.send({"kind": "complete"})
    return vm


def commit(parent: frames.Channel, vm: InheritedMachine) -> list[signals.Signal]:
    """Wait for the word and take everything in; the result is the signals that came meanwhile.

    :raise Refusal: this process cannot take over.
    :raise Disconnected: the parent is gone, or has given up.
    :raise BadFrame: what it says cannot be understood.
    """
    message, descriptors = _next(parent, vm)
    gc.disable()
    vm.inherit(message["state"], descriptors)
    parent.send({"kind": "standing"})
    message, _ = parent.receive()
    # Those sent to this process are either meant for the parent as well (from a terminal), or came too early.
    signals.forget()
    gc.enable()
    return [(int(number), int(sender)) for number, sender in message["signals"]]


def _next(parent: frames.Channel, vm: InheritedMachine) -> tuple[frames.Message, list[int]]:
    """The next message, when all entries of the transcript that come before it are taken in."""
    while True:
        message, descriptors = parent.receive(most_descriptors=frames.MOST_DESCRIPTORS)
        if message["kind"] != "entries":
            return message, descriptors
        vm.take_entries(message["entries"])
        parent.send({"kind": "taken"})
