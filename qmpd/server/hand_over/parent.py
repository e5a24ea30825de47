"""The parent's side of a live update: it starts a child, and leaves the machine to it when it is told to.

The two talk over a private socket pair (`qmpd.server.hand_over.frames`); the other side is
`qmpd.server.hand_over.child`.

    parent                                child
    prepare: settings, clone        ->
    entries: of the transcript      ->    (as many of these as it takes)
    practise                        ->    builds a machine of the clone, to see that it can
    (serves)                        <-    complete
    commit: all that there is       ->    builds the machine, writes the pid file
    (stands still)                  <-    standing
    go: what came in the meantime   ->
    (leaves)                        <-    serving; the first turn of its main loop

Until the child has said `serving` it touches no client's socket, so up to there the parent can go on as if
nothing had been asked: it does where the child refuses, is gone or takes too long.  A child whose parent is
gone reads the end of the socket, and ends.

The commit runs in one go in the main loop's task, so that nothing else of this process touches a socket after
its state has been taken.  Signals are the exception: a thread takes them, and those that come while the
machine changes hands are told to the child with `go` or after it.
"""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import trio

from qmpd.common.plain import to_plain
from qmpd.machine.live_update import UNDER_WAY, LiveUpdate, UpdateStage
from qmpd.monitor.errors import CommandError
from qmpd.server import log
from qmpd.server.connection import Connection
from qmpd.server.hand_over import frames, snapshot
from qmpd.server.systemd import notify

if TYPE_CHECKING:
    from qmpd.control.transcript import Recorder
    from qmpd.monitor.errors import HandOver
    from qmpd.server.settings import MonitorSettings
    from qmpd.server.signals import Inbox
    from qmpd.server.virtual_machine import VirtualMachine

# The same program: this interpreter, with the module path of this process.
_ENTRY = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from qmpd.server.hand_over.child import main; sys.exit(main(sys.argv[1:2]))"
)

ENTRIES = 2000
"""Entries of the transcript that are sent in one piece, before a clone is complete."""

LAST_WORDS = 0.2
"""Seconds that a child which has closed its socket is given to end by itself, so that its status can be told."""


class Refused(Exception):  # noqa: N818 - it says what the child did
    """The child cannot do what it is asked to; the text is its own."""


class Child:
    """One child: its process, this end of the socket pair, and the scope of the task that is with it."""

    __slots__ = ("channel", "complete", "entries", "process", "resets", "scope")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.process: trio.Process | None = None
        self.channel: socket.socket | None = None
        # Whether it has the clone, and so is ready to take over.
        self.complete = False
        # How far it has the transcript, and of which of its beginnings.
        self.entries = 0
        self.resets = 0

    async def start(self, program: str | None) -> None:
        """Start the process.

        :raise OSError: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        self.channel = ours
        ours.setblocking(False)
        with theirs:
            number = theirs.fileno()
            if program is None:
                command = [sys.executable, "-c", _ENTRY, str(number), *sys.path]
            else:
                command = [program, "take-over", str(number)]
            try:
                self.process = await trio.lowlevel.open_process(command, pass_fds=[number])
            except (OSError, subprocess.SubprocessError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise OSError(f"{command[0]} cannot be started: {reason}") from None

    async def epitaph(self) -> str:
        """What there is to say of a child that has closed its end."""
        assert self.process is not None
        with trio.move_on_after(LAST_WORDS):
            await self.process.wait()
        status = self.process.returncode
        when = "while it was ready" if self.complete else "before it was ready"
        if status is None:
            return f"the child turned away {when}"
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"the child {how} {when}"

    def kill(self) -> None:
        """Have it do nothing more."""
        if self.process is not None:
            self.process.kill()

    async def bury(self) -> None:
        """Kill it, and wait until nothing is left of it."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.kill()
        if self.process is not None:
            with trio.CancelScope(shield=True):
                await self.process.wait()


class Parent:
    """The live update of a machine that has this process for itself (`qmpd.monitor.live_update.Parent`)."""

    __slots__ = ("_child", "_inbox", "_vm", "update")

    def __init__(self, vm: VirtualMachine, inbox: Inbox) -> None:
        """`inbox` has the signals that have come and were not acted upon."""
        self._vm = vm
        self._inbox = inbox
        self._child: Child | None = None
        self.update = LiveUpdate(vm.dispatcher.machine)

    @property
    def child(self) -> int | None:
        """The process id of the child; None where there is none."""
        return None if self._child is None or self._child.process is None else self._child.process.pid

    def prepare(self, program: str | None, timeout: float) -> None:
        """Start a child: this program, or another one, which is called with `take-over` and a descriptor's number.

        It is given `timeout` seconds to become ready.  What goes wrong is told by the stage.

        :raise CommandError: an update is under way.
        """
        if self.update.stage not in (UpdateStage.NONE, UpdateStage.FAILED):
            raise CommandError("A live update is under way")
        if self._vm.settings.chardevs or any(_unusual(monitor) for monitor in self._vm.settings.monitors):
            raise CommandError("Only the listening Unix sockets of 'qmpd serve' can be handed over")
        child = self._child = Child()
        self.update.prepare(lambda: child.complete)
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

    def commit(self, request: HandOver) -> bool:
        """Leave the machine to the child, and say whether it has it.  Where not, the parent replies and goes on."""
        control = self._vm.control
        if control is not None and control.unfinished:
            reason: str | None = "a command of the control socket is being executed"
        else:
            reason = self._hand_over(request)
        if reason is None:
            return True
        text = f"The child could not take over: {reason}"
        reply = self._vm.dispatcher.late_reply(request.session, request.message, text)
        request.session.send(reply)
        return False

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
        self.update.enter(UpdateStage.FAILED, reason)

    async def _accompany(self, child: Child, program: str | None, patience: float) -> str:
        """Bring the child to where it can take over, and wait for its end; why it has ended."""
        try:
            try:
                with trio.fail_after(patience):
                    await child.start(program)
                    await self._send_clone(child)
            except trio.TooSlowError:
                return f"the child was not ready after {patience:g} seconds"
            child.complete = True
            self._vm.dispatcher.machine.notify()
            assert child.channel is not None
            await trio.lowlevel.wait_readable(child.channel)
            return await child.epitaph()
        except (frames.Disconnected, ConnectionError):
            return await child.epitaph()
        except Refused as error:
            return f"the child refused: {error}"
        except (OSError, frames.BadFrame) as error:
            return str(error)

    async def _send_clone(self, child: Child) -> None:
        vm = self._vm
        assert child.channel is not None
        message = {
            "kind": "prepare",
            "format": frames.FORMAT,
            "settings": to_plain(vm.settings),
            "log": [log.level, log.name],
            "commands": [name for name, entry in vm.dispatcher.commands.items() if entry is not None],
            "state": snapshot.take(vm).state,
        }
        await frames.send_soon(child.channel, message)
        if vm.puppeteer is not None:
            await self._send_transcript(child, child.channel, vm.puppeteer.recorder)
        await frames.send_soon(child.channel, {"kind": "practise"})
        _require(await frames.receive_soon(child.channel), "complete")

    @staticmethod
    async def _send_transcript(child: Child, channel: socket.socket, recorder: Recorder) -> None:
        """Send what is in the transcript by now, piece by piece; the clients are served in between."""
        from qmpd.control.snapshot import take_entries

        child.resets, entries = recorder.resets, recorder.entries()
        for start in range(0, len(entries), ENTRIES):
            piece = take_entries(entries[start : start + ENTRIES])
            await frames.send_soon(channel, {"kind": "entries", "entries": piece})
        child.entries = entries[-1][0] if entries else 0

    # The hand-over

    def _hand_over(self, request: HandOver) -> str | None:
        """Go through the hand-over; why it failed, None where the child serves now."""
        vm, child = self._vm, self._child
        if child is None or child.channel is None:
            return "it is gone"
        self.update.enter(UpdateStage.PARENT_COMMIT)
        began = time.monotonic()
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._exchange(request, child, child.channel)
        except TimeoutError:
            reason = f"it had {request.timeout:g} seconds"
        except frames.Disconnected:
            reason = "it is gone"
        except (OSError, frames.BadFrame, Refused) as error:
            reason = str(error)
        else:
            self._leave()
            if "NOTIFY_SOCKET" in os.environ:
                # Only the service's main process is believed, which this one is for a little while yet.
                notify(f"MAINPID={self.child}")
            stood_still = (time.monotonic() - began) * 1000
            log.info(f"process {self.child} serves from now on; the machine stood still for {stood_still:.1f} ms")
            return None
        finally:
            if collecting:
                gc.enable()
        # It must not come to itself later and serve as well.
        child.kill()
        if vm.pid_file is not None:
            try:
                vm.pid_file.write()
            except OSError as error:
                log.error(f"{vm.pid_file.path}: {error.strerror}")
        self._fail(f"the child could not take over: {reason}")
        child.scope.cancel()
        return reason

    def _exchange(self, request: HandOver, child: Child, channel: socket.socket) -> None:
        """Hand over, and return when the child serves.

        :raise TimeoutError, OSError, Disconnected, BadFrame, Refused: it does not.
        """
        vm = self._vm
        end = time.monotonic() + request.timeout
        reply = vm.dispatcher.late_reply(request.session, request.message, None)
        taken = snapshot.take(vm, {request.session: reply})
        if vm.puppeteer is not None:
            from qmpd.control.snapshot import take_entries

            recorder = vm.puppeteer.recorder
            goes_on = recorder.resets == child.resets
            taken.state["goes_on"] = goes_on
            taken.state["entries"] = take_entries(recorder.entries(child.entries if goes_on else 0))
        _limit(channel, end)
        frames.send(channel, {"kind": "commit", "state": taken.state}, taken.descriptors)
        _limit(channel, end)
        _require(frames.receive(channel)[0], "standing")
        frames.send(channel, {"kind": "go", "signals": self._inbox.take()})
        _limit(channel, end)
        _require(frames.receive(channel)[0], "serving")

    def _leave(self) -> None:
        """Let go of everything that is the child's now."""
        vm = self._vm
        sessions = [*vm.dispatcher.sessions, *(vm.control.sessions if vm.control is not None else ())]
        for session in sessions:
            if isinstance(session.owner, Connection):
                session.owner.release()
        for _, listener in vm.listeners:
            listener.close()
        vm.listeners.clear()
        if vm.devices is not None:
            vm.devices.release()
        if vm.puppet_host is not None:
            vm.puppet_host.close()
        if vm.pid_file is not None:
            vm.pid_file.release()
            vm.pid_file = None

    def last_words(self) -> None:
        """Tell the child of the signals that have come since it took over; this process acts on none any more."""
        if self._child is None or self._child.channel is None:
            return
        self._inbox.close()
        try:
            for signal in self._inbox.take():
                frames.send(self._child.channel, {"kind": "signal", "signal": signal})
        except OSError:
            pass  # the child has ended since
        self._child.channel.close()


def _unusual(monitor: MonitorSettings) -> bool:
    """Whether this is anything but a Unix socket of `qmpd serve` that listens for QMP."""
    return monitor.host is not None or monitor.mode != "control" or monitor.location != ""


def _require(answer: dict[str, Any], kind: str) -> None:
    """:raise Refused: the child's answer is another one."""
    if answer.get("kind") != kind:
        raise Refused(answer.get("reason", "it does not say why"))


def _limit(channel: socket.socket, end: float) -> None:
    """Let the next operation take until `end`, on the monotonic clock."""
    channel.settimeout(max(end - time.monotonic(), 0.001))
