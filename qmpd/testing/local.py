"""A VM in the test's own process, served by the background thread."""

from __future__ import annotations

import contextlib
import copy
import threading
import weakref
from typing import TYPE_CHECKING, Any

import trio

from qmpd.common.refusals import Refusal
from qmpd.control.clock import PuppetClock
from qmpd.control.errors import ControlError
from qmpd.control.recorder import EntryKind
from qmpd.server.hand_over.snapshot import put, take_alone
from qmpd.server.listener import ListenError
from qmpd.server.virtual_machine import VirtualMachine
from qmpd.testing import background
from qmpd.testing.settings import Folder, StartError, release_of
from qmpd.testing.snapshot import Snapshot
from qmpd.testing.vm import VM
from qmpd.testing.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.control.performance import Declaration
    from qmpd.guest.agent.calls import Call, Ending
    from qmpd.hardware.inventory import Inventory
    from qmpd.server.settings import VMSettings

GRACE = 10.0
"""Seconds that a VM is given to end."""


class LocalVM(VM):
    """A VM in this process.  Ending as if it were killed, it leaves its sockets, and this process runs on."""

    def __init__(self, settings: VMSettings, folder: Folder, inventory: Inventory | None = None) -> None:
        """Start it; `inventory` is what was built for it.

        :raise StartError: a socket cannot be made.
        """
        super().__init__(release_of(settings), [monitor.path for monitor in settings.monitors], Watch())
        self._folder = folder
        self._settings = settings
        self._failure: BaseException | None = None
        self._closed = False
        self._background = background.acquire()
        self._finalizer = weakref.finalize(self, _release, folder)
        self._prepare()
        try:
            self._served, self._puppeteer = self._background.call(lambda: self._make(settings, inventory))
        except BaseException as error:
            self._finalizer()
            if isinstance(error, ListenError):
                raise StartError(str(error)) from None
            raise
        self._initial = str(self._served.system.machine.state)
        self._background.spawn(self._serve)
        if not any(monitor.wait for monitor in settings.monitors):
            self._began.wait(GRACE)
            self._catch_up()

    def _prepare(self) -> None:
        """Begin a life: the VM has not ended yet."""
        self._status: int | None = None
        self._began = threading.Event()
        self._done = threading.Event()
        self._scope = trio.CancelScope()

    def _make(self, settings: VMSettings, inventory: Inventory | None) -> tuple[VirtualMachine, Any]:
        vm = VirtualMachine(settings, PuppetClock.parse(settings.clock), inventory)
        puppeteer = vm.play()
        puppeteer.recorder.follow(self._watch.add, from_start=True)
        vm.listen()
        return vm, puppeteer

    async def _serve(self) -> None:
        try:
            with self._scope:
                self._status = await self._served.run(self._began.set)
        except BaseException as error:  # shown to the test, by whatever it does next
            self._failure = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._began.set()
            self._done.set()
            self._watch.close()

    def _perform(
        self, attribute: str, declaration: Declaration, arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        __tracebackhide__ = True
        group = getattr(self._puppeteer, attribute)

        def perform() -> Any:
            try:
                self._puppeteer.catch_up()
            except Exception as error:
                self._failure = error
                self._scope.cancel()
                raise RuntimeError("the VM has failed") from error
            if not declaration.silent and (self._done.is_set() or self._puppeteer.ended):
                raise ControlError("the VM has ended")
            return self._puppeteer.perform(declaration, group, arguments, options)

        if self._failure is not None:
            raise RuntimeError("the VM has failed") from self._failure
        if self._closed:
            if declaration.silent:
                return declaration.function(group, *arguments, **options)
            raise ControlError("the VM has been closed")
        try:
            return self._background.call(perform)
        except Refusal as error:
            raise ControlError(self._puppeteer.release.refusals.message(error)) from None
        finally:
            if self._puppeteer.ended and threading.current_thread().name != background.NAME:
                # Its clients find themselves cut off when this returns, and not a little later.
                self._done.wait(GRACE)

    def _initial_state(self) -> str:
        return self._initial

    @property
    def exit_status(self) -> int | None:
        """The VM's exit status; None as long as it runs, or where it was closed before it ended."""
        return self._status

    def _final_status(self) -> int:
        self._done.wait(GRACE)
        if self._failure is not None:
            raise RuntimeError("the VM has failed") from self._failure
        assert self._status is not None
        return self._status

    def agent_program(self, path: str, program: Callable[[Call], Ending]) -> None:
        """Have the guest's agent run a function where it is asked for the program at `path` (`agent.execute` for less).

        The function gets what the program is called with, in the VM's own thread, and must not wait.

        :raise ControlError: the guest has no agent.
        """
        guest = self._served.system.guest
        if guest is None or not guest.settings.agent:
            raise ControlError("the guest has no agent")
        self._background.call(lambda: guest.have_agent().agent.programs.scripted.update({path: program}))

    def snapshot(self) -> Snapshot:
        """Keep the VM as it is: run state, guest, clock, devices, disks, faults, overrides; not who is connected.

        :raise ControlError: it has ended, or has what cannot be kept.
        """
        __tracebackhide__ = True
        self._catch_up()
        if self._closed or self._done.is_set():
            raise ControlError("the VM has ended")
        try:
            return self._background.call(self._take)
        except ValueError as error:
            raise ControlError(str(error)) from None

    def _take(self) -> Snapshot:
        """Keep it, in the main loop."""
        system = self._served.system
        disks = None
        if not system.is_bare and system.inventory.backends.block.nodes:
            from qmpd.testing.kept_disks import KeptDisks

            graph = system.inventory.backends.block
            if graph.executor is not None and not graph.executor.settle(GRACE):
                raise ControlError("a disk does not answer")
            disks = KeptDisks(graph)
        return Snapshot(self, take_alone(self._served), disks)

    def restore(self, snapshot: Snapshot) -> None:
        """Be as the VM was when the snapshot was made, also where it has ended since; clients are disconnected.

        The transcript goes on: what was seen before is still there.

        :raise ControlError: the snapshot is another VM's, the VM has been closed, or a disk cannot be written.
        :raise StartError: a socket cannot be made.
        """
        __tracebackhide__ = True
        if self._closed:
            raise ControlError("the VM has been closed")
        if snapshot.vm is not self:
            raise ControlError("the snapshot is another VM's")
        before = self.run_state
        self._background.call(self._scope.cancel)
        self._done.wait(GRACE)
        if self._failure is not None:
            raise RuntimeError("the VM has failed") from self._failure
        self._prepare()
        if snapshot.disks is not None:
            snapshot.disks.put_back()
        try:
            self._served, self._puppeteer = self._background.call(lambda: self._make_again(snapshot, before))
        except ListenError as error:
            self._done.set()
            raise StartError(str(error)) from None
        self._background.spawn(self._serve)
        self._began.wait(GRACE)

    def _make_again(self, snapshot: Snapshot, before: str) -> tuple[VirtualMachine, Any]:
        vm = VirtualMachine(self._settings, PuppetClock.parse(self._settings.clock))
        put(vm, copy.deepcopy(snapshot.state), None)
        # It has started long ago, and waits for nobody.
        vm.started = True
        puppeteer = vm.play()
        self._watch.reopen()
        puppeteer.recorder.follow(self._watch.add, from_start=False)
        if puppeteer.machine.state != before:
            puppeteer.recorder.record(EntryKind.RUN_STATE, from_=before, to=str(puppeteer.machine.state))
        vm.listen()
        return vm, puppeteer

    def close(self) -> None:
        """End the VM, whatever it is doing, and take its sockets away; nothing happens where that has been done.

        :raise RuntimeError: the VM has failed: a bug in qmpd.
        """
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(Exception):
            # What clients have sent in the end is in the transcript.
            self._background.call(self._puppeteer.catch_up)
        self._background.call(self._scope.cancel)
        self._done.wait(GRACE)
        self._finalizer()
        if self._failure is not None:
            raise RuntimeError("the VM has failed") from self._failure


def _release(folder: Folder) -> None:
    background.release()
    folder.remove()
