"""The parent's side of a live update: it starts a child, and leaves the machine to it when it is told to.

The two talk over a private socket pair (`qmpd.server.hand_over.frames`); the other side is
`qmpd.server.hand_over.child`.

    parent                                child
    prepare: settings, clone        ->    builds a machine of the clone, to see that it can
                                    <-    complete
    entries: of the transcript      ->    (as many of these as it takes, and while it waits)
                                    <-    taken
    (serves)
    commit: all that there is       ->    builds the machine, writes the pid file
    (stands still)                  <-    standing
    go: what came in the meantime   ->
                                    <-    serving; the first turn of its main loop
    (lets go of the disks' locks)
    yours                           ->
    (leaves)                              (goes to the clients)

Until the child has been told that the machine is its own it touches no client's socket, so up to there the parent
can go on as if nothing had been asked: it does where the child refuses, is gone, says what cannot be understood or
takes too long.  A child whose parent is gone reads the end of the socket, and ends.

The commit runs in one go in the main loop's task, so that nothing else of this process touches a socket after
its state has been taken.  Signals are the exception: a thread takes them, and those that come while the
machine changes hands are told to the child with `go` or after it.
"""

from __future__ import annotations

import gc
import os
import time
import traceback
from typing import TYPE_CHECKING, NamedTuple, cast

import trio

from qmpd.block.making import keep_locked, let_go_of_locks
from qmpd.common.plain import to_plain
from qmpd.machine.live_update import UNDER_WAY, LiveUpdate, UpdateStage
from qmpd.monitor.errors import CommandError
from qmpd.server import log
from qmpd.server.connection import Connection
from qmpd.server.hand_over import frames, snapshot
from qmpd.server.hand_over.child_process import Child, Refused, require
from qmpd.server.systemd import notify
from qmpd.system.activities import jobs_at_rest

if TYPE_CHECKING:
    from qmpd.control.recorder import Recorder
    from qmpd.monitor.session import Session
    from qmpd.server.settings import MonitorSettings
    from qmpd.server.signals import Inbox, Signal
    from qmpd.server.virtual_machine import VirtualMachine
    from qmpd.system.deferred import Deferred

SETTLING = 0.2
"""Seconds that what is written to the transcript may take before a hand-over."""

PATIENCE = 1.0
"""Seconds that a child which serves has to take the signals that came too late for the hand-over."""


class Request(NamedTuple):
    """Who has asked for the hand-over, with what message, and how many seconds the child has."""

    session: Session
    message: object
    timeout: float


class Parent:
    """The live update of a machine that has this process for itself (`qmpd.monitor.live_update.Parent`)."""

    __slots__ = ("_child", "_inbox", "_vm", "update")

    def __init__(self, vm: VirtualMachine, inbox: Inbox) -> None:
        """`inbox` has the signals that have come and were not acted upon."""
        self._vm = vm
        self._inbox = inbox
        self._child: Child | None = None
        self.update = LiveUpdate(vm.system.machine)

    @property
    def child(self) -> int | None:
        """The process id of the child; None where there is none."""
        return None if self._child is None or self._child.process is None else self._child.process.pid

    def prepare(self, program: str | None, timeout: float) -> None:
        """Start a child: this program, or another one, which is called with `take-over` and a descriptor's number.

        It is given `timeout` seconds to become ready.  What goes wrong is told by the stage.

        :raise CommandError: an update is under way.
        """
        if not self.update.allows("prepare"):
            raise CommandError("A live update is under way")
        if self._vm.settings.chardevs or any(_unusual(monitor) for monitor in self._vm.settings.monitors):
            raise CommandError("Only the listening Unix sockets of 'qmpd serve' can be handed over")
        child = self._child = Child()
        self.update.prepare(lambda: child.complete, child.scope.cancel)
        self._vm.nursery.start_soon(self._raise, child, program, timeout)

    def cancel(self) -> None:
        """End the child; the stage is `none` again when it is gone.  A failure is dismissed.

        :raise CommandError: there is nothing to cancel.
        """
        stage = self.update.stage
        if stage is UpdateStage.FAILED:
            self.update.enter(UpdateStage.NONE)
        elif stage in UNDER_WAY and self._child is not None:
            self.update.enter(UpdateStage.CANCELLED)
            self._child.scope.cancel()
        else:
            raise CommandError("No live update is under way")

    def commit(self, timeout: float, deferred: Deferred) -> None:
        """Leave the machine to the child, which then replies; where that fails this process does, and goes on.

        It is done by the main loop's own task, so that nothing else touches a socket meanwhile.
        """
        self._vm.loop.ask(lambda: self._commit(timeout, deferred))

    def _commit(self, timeout: float, deferred: Deferred) -> None:
        vm = self._vm
        session = cast("Session", deferred.session)
        # Whoever goes on, the client's next request may be executed.
        deferred.hand_over()
        session.deferred = None
        vm.dispatcher.go_on(session)
        request = Request(session, deferred.message, timeout)
        with jobs_at_rest(vm.system) as reason:
            reason = reason or self._busy()
            if reason is None:
                reason = self._hand_over(request)
        if reason is None:
            vm.handed_over = True
            vm.system.exit_status = 0
            return
        text = f"The child could not take over: {reason}"
        session.send(vm.dispatcher.late_reply(session, request.message, text))

    def _busy(self) -> str | None:
        """Why the machine cannot be handed over just now; None where it can.  The child stays as it is."""
        control, host = self._vm.control, self._vm.puppet_host
        if control is not None and control.unfinished:
            return "a command of the control socket is being executed"
        if host is not None and host.transcript is not None and not host.transcript.settle(SETTLING):
            return "the transcript is not written yet"
        if self._vm.system.has_exports:
            return "disks of the machine are exported"
        devices = self._vm.devices
        return (None if devices is None else devices.hindrance) or self._vm.system.activities.hindrance()

    # The child's life

    async def _raise(self, child: Child, program: str | None, patience: float) -> None:
        """Have a child as long as the update is under way."""
        reason: str | None = None
        try:
            with child.scope:
                reason = await self._accompany(child, program, patience)
        finally:
            if not self._vm.handed_over:
                await child.bury()
                self._ended(child, reason)

    def _ended(self, child: Child, reason: str | None) -> None:
        """Nothing is left of the child; say so."""
        if self._child is not child:
            return  # the next one is under way
        self._child = None
        if self.update.stage is UpdateStage.CANCELLED:
            self.update.enter(UpdateStage.NONE)
        elif reason is not None and self.update.stage in UNDER_WAY:
            self._fail(reason)

    def _fail(self, reason: str) -> None:
        log.error(f"live update: {reason}")
        self.update.fail(reason)

    async def _accompany(self, child: Child, program: str | None, patience: float) -> str:
        """Bring the child to where it can take over, and wait for its end; why it has ended."""
        try:
            try:
                with trio.fail_after(patience):
                    await child.start(program)
                    # There may always be more to tell.
                    await self._send_clone(child, trio.current_time() + patience / 2)
            except trio.TooSlowError:
                return f"the child was not ready after {patience:g} seconds"
            child.complete = True
            self._vm.system.machine.notify()
            await child.accompany(self._recorder)
        except (frames.Disconnected, ConnectionError):
            return await child.epitaph()
        except Refused as error:
            return f"the child refused: {error}"
        except (OSError, frames.BadFrame, frames.TooLarge) as error:
            return str(error)
        except Exception as error:
            return _unexpected(error)

    @property
    def _recorder(self) -> Recorder | None:
        return None if self._vm.puppeteer is None else self._vm.puppeteer.recorder

    async def _send_clone(self, child: Child, until: float) -> None:
        vm = self._vm
        with jobs_at_rest(vm.system):
            state = snapshot.take(vm).state
        await child.send({
            "kind": "prepare",
            "format": frames.FORMAT,
            "settings": to_plain(vm.settings),
            "log": [log.level, log.name],
            "commands": [name for name, entry in vm.dispatcher.commands.items() if entry is not None],
            "state": state,
        })
        await child.answers("complete")
        recorder = self._recorder
        if recorder is not None:
            await child.catch_up(recorder, until)

    # The hand-over

    def _hand_over(self, request: Request) -> str | None:
        """Go through the hand-over; why it failed, None where the child serves now."""
        child = self._child
        if child is None or child.channel is None:
            return "it is gone"
        self.update.enter(UpdateStage.PARENT_COMMIT)
        began = time.monotonic()
        collecting = gc.isenabled()
        gc.disable()
        received: list[Signal] = []
        try:
            self._exchange(request, child, began + request.timeout, received)
        except TimeoutError:
            reason = f"it had {request.timeout:g} seconds"
        except frames.Disconnected:
            reason = "it is gone"
        except (OSError, frames.BadFrame, frames.TooLarge, Refused) as error:
            reason = str(error)
        except Exception as error:
            reason = _unexpected(error)
        else:
            try:
                self._leave()
            except Exception as error:
                _unexpected(error)  # whatever is left open, the machine is the child's
            if "NOTIFY_SOCKET" in os.environ:
                # Only the service's main process is believed, which this one is for a little while yet.
                notify(f"MAINPID={self.child}")
            stood_still = (time.monotonic() - began) * 1000
            log.info(f"process {self.child} serves from now on; the machine stood still for {stood_still:.1f} ms")
            return None
        finally:
            if collecting:
                gc.enable()
        self._go_on(child, reason, received)
        return reason

    def _go_on(self, child: Child, reason: str, received: list[Signal]) -> None:
        """Be the one that serves after all."""
        # It must not come to itself later and serve as well.
        child.kill()
        if self._vm.system.built is not None:
            keep_locked(self._vm.system.built.backends.block)
        pid_file = self._vm.pid_file
        if pid_file is not None:
            try:
                pid_file.write()
            except OSError as error:
                log.error(f"{pid_file.path}: {error.strerror}")
        self._fail(f"the child could not take over: {reason}")
        child.scope.cancel()
        for signal in received:
            self._vm.system.machine.request_shutdown_by_signal(*signal)

    def _exchange(self, request: Request, child: Child, deadline: float, received: list[Signal]) -> None:
        """Hand over, and return when the machine is the child's; the signals that it was told are put in `received`.

        :raise TimeoutError, OSError, Disconnected, BadFrame, TooLarge, Refused: it is not.
        """
        vm = self._vm
        channel = child.begin_hand_over(deadline)
        reply = vm.dispatcher.late_reply(request.session, request.message, None)
        taken = snapshot.take(vm, {request.session: reply})
        recorder = self._recorder
        if recorder is not None:
            taken.state |= child.rest_of_transcript(recorder)
        channel.send({"kind": "commit", "state": taken.state}, taken.descriptors)
        require(channel.receive(frames.LARGEST_ANSWER)[0], "standing")
        received += self._inbox.take()
        channel.send({"kind": "go", "signals": received})
        require(channel.receive(frames.LARGEST_ANSWER)[0], "serving")
        if vm.system.built is not None:
            # The child has its own, and this process may take a while to end.
            let_go_of_locks(vm.system.built.backends.block)
        channel.send({"kind": "yours"})

    def _leave(self) -> None:
        """Let go of everything that is the child's now."""
        vm = self._vm
        for _, listener in vm.listeners:
            listener.close()
        vm.listeners.clear()
        sessions = [*vm.dispatcher.sessions, *(vm.control.sessions if vm.control is not None else ())]
        for session in sessions:
            if isinstance(session.owner, Connection):
                session.owner.release()
        if vm.devices is not None:
            vm.devices.release()
        if vm.puppet_host is not None:
            vm.puppet_host.close()
        if vm.pid_file is not None:
            vm.pid_file.release()
            vm.pid_file = None

    def pass_signals_on(self) -> None:
        """Tell the child of the signals that have come since it took over; this process acts on none any more."""
        if self._child is None or self._child.channel is None:
            return
        channel = frames.Channel(self._child.channel, time.monotonic() + PATIENCE)
        try:
            for signal in self._inbox.take():
                channel.send({"kind": "signal", "signal": signal})
        except OSError:
            pass  # the child has ended since


def _unusual(monitor: MonitorSettings) -> bool:
    """Whether this is anything but a Unix socket of `qmpd serve` that listens for QMP."""
    return monitor.host is not None or monitor.mode != "control" or monitor.location != ""


def _unexpected(error: Exception) -> str:
    """What to say of a failure of this program's own."""
    log.error("".join(traceback.format_exception(error)).rstrip())
    return f"qmpd fails with {error!r}"
