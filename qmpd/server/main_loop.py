"""The main loop of one virtual machine: it waits for work, does it, and hands out what is owed to the clients.

Nothing else touches the machine: the connections hand their requests to the session's queue.  The loop has a task for
what takes time; while that sleeps, a pass of the loop is made by the task of the client that asks for something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from qmpd.schedule.schedule import Time
from qmpd.server.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.server.owner import MachineOwner


class MainLoop:
    """Runs one machine.  Only `wake` and `work` are for its clients' tasks."""

    __slots__ = ("_asked", "_deadlines", "_task", "_vm", "_woken", "take_signals")

    def __init__(self, vm: MachineOwner) -> None:
        self._vm = vm
        # What is to be done by the loop's own task.
        self._asked: list[Callable[[], None]] | None = None
        # Lets the machine know of the signals that have come, and says whether there were some; None where they are
        # not the machine's.
        self.take_signals: Callable[[], bool] | None = None
        self._task: trio.lowlevel.Task | None = None
        self._woken = False
        # The deadline that the loop's task sleeps to.
        self._deadlines: tuple[int | None, int | None] = (None, None)

    def wake(self) -> None:
        """Tell the main loop that there is work."""
        self._woken = True
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)

    def ask(self, action: Callable[[], None]) -> None:
        """Have something done by the loop's own task, between two passes: what must not run in a client's."""
        if self._asked is None:
            self._asked = []
        self._asked.append(action)
        self.wake()

    @property
    def is_asked(self) -> bool:
        """Whether there is something to be done so."""
        return self._asked is not None

    def work(self) -> None:
        """Do what a client has just asked for: at once, in the place of the main loop's task, where that sleeps.

        Waking the task instead would cost every single command a pass of trio's own loop.
        """
        task = self._task
        vm = self._vm
        if task is None or vm.puppeteer is not None:
            self.wake()
            if vm.control is not None and not vm.started:
                # The main loop's task waits for a first client; the puppeteer does not have to.
                self._run_puppeteer()
                self.flush()
            return
        # What the machine asks of its main loop meanwhile is looked at below.
        self._task = None
        more = self.step()
        self.flush()
        self._task = task
        more = more or self.is_asked or vm.system.is_ending
        if more or (self.next_deadline(), vm.system.machine.schedule.next_real_deadline()) != self._deadlines:
            self.wake()

    async def until(self, event: trio.Event) -> None:
        """Wait for what has to come before the machine starts, or for its end: by a signal, or by the puppeteer."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wake_after, event)
            while not event.is_set():
                self._woken = False
                if self.take_signals is not None:
                    self.take_signals()
                if self._vm.system.exit_status is not None:
                    break
                if not self._woken:
                    await self._park()
            nursery.cancel_scope.cancel()

    async def _wake_after(self, event: trio.Event) -> None:
        await event.wait()
        self.wake()

    async def run(self) -> None:
        """Go round until the machine has ended, or is another process's."""
        vm = self._vm
        system = vm.system
        while True:
            self._woken = False
            if vm.puppeteer is not None and self._run_puppeteer():
                more = False
            else:
                more = self.step()
                if self._asked is not None:
                    asked, self._asked, more = self._asked, None, True
                    for action in asked:
                        action()
            self.flush()
            if system.is_ending and system.exit_status is None:
                # A disk that does not answer holds nobody else up.
                await vm.await_disks()
                system.end()
                self.flush()
            if system.exit_status is not None:
                return
            if more or self._woken:
                await trio.lowlevel.checkpoint()
            else:
                await self._wait_for_work()

    def step(self) -> bool:
        """One pass of the main loop: signals, timers, a turn, requests; whether there is more to do at once.

        In this order real QEMU comes to them that was stopped while they came: its signal handler runs before all else,
        and ends the wait for input without any, so that timers and the turn are next.
        """
        if self.take_signals is not None:
            self.take_signals()
        system, dispatcher = self._vm.system, self._vm.dispatcher
        machine = system.machine
        deadline = machine.schedule.next_deadline()
        real = machine.schedule.next_real_deadline()
        if (deadline is not None and deadline <= self._vm.clock.monotonic_nanoseconds()) or (
            real is not None and real <= machine.schedule.now(Time.REAL)
        ):
            machine.schedule.run()
        if machine.pending:
            system.turn()
        more = bool(dispatcher.ready) and dispatcher.run_requests()
        return more or machine.pending

    def _run_puppeteer(self) -> bool:
        """Execute what the control socket asks for; whether a fault keeps the main loop from all else."""
        puppeteer, control = self._vm.puppeteer, self._vm.control
        assert puppeteer is not None
        if control is not None and control.busy:
            control.run_requests()
        return puppeteer.run()

    def next_deadline(self) -> int | None:
        """When something is due by itself next, in the clock's nanoseconds; None where nothing is."""
        vm = self._vm
        if vm.puppeteer is not None:
            return vm.puppeteer.next_deadline()
        return vm.system.machine.schedule.next_deadline()

    def seconds_to_timer(self) -> float | None:
        """How long it is to the next timer, in seconds of the computer's time, negative where it is due.

        None where there is none, or none will be due by itself.
        """
        schedule, clock = self._vm.system.machine.schedule, self._vm.clock
        deadline, real = self._deadlines = self.next_deadline(), schedule.next_real_deadline()
        seconds = None if deadline is None else clock.real_seconds(deadline - clock.monotonic_nanoseconds())
        if real is None:
            return seconds
        left = (real - schedule.now(Time.REAL)) / 1e9
        return left if seconds is None else min(left, seconds)

    async def _wait_for_work(self) -> None:
        remaining = self.seconds_to_timer()
        if remaining is None:
            await self._park()
        elif remaining > 0:
            with trio.move_on_after(remaining):
                await self._park()
        else:
            # The clock may be so quick that there always is a timer that is due.
            await trio.lowlevel.checkpoint()

    async def _park(self) -> None:
        self._task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def flush(self) -> None:
        """Hand out what is owed to the clients."""
        unsent = self._vm.dispatcher.unsent
        if unsent:
            for session in unsent:
                if isinstance(session.owner, Connection):
                    session.owner.flush()
                else:
                    session.unsent = False
            unsent.clear()
