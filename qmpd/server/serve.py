"""Serve one virtual machine from the first to its last."""

from __future__ import annotations

import contextlib
import gc
import os
from typing import TYPE_CHECKING

import trio

from qmpd.server import log, signals
from qmpd.server.connecting import Interrupted
from qmpd.server.threads import IdleThreads
from qmpd.server.virtual_machine import VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qmpd.hardware.inventory import Inventory
    from qmpd.server.settings import VMSettings


def serve(
    settings: VMSettings,
    on_listening: Callable[[], None] | None = None,
    on_start: Callable[[], None] | None = None,
    tell: Callable[[str], None] | None = None,
    inventory: Inventory | None = None,
) -> int:
    """Listen, call `on_listening`, and serve until the machine ends; the result is its exit status.

    `on_start` is called when the machine starts: after the clients that are waited for have come, and before any of
    them is served.  `tell` is told why a socket cannot be made, while those that were are still there.  `inventory` is
    what was built for the machine by now.

    Signals end the machine as they end QEMU; this must be the process's main thread.

    :raise ListenError: a socket cannot be made.
    :raise PidFileError: the pid file cannot be made or locked.
    :raise UnknownRelease: there is no release of that name.
    """
    # From here on a signal is one to the machine, lest the socket files outlive the process.
    signals.block()
    vm = VirtualMachine(settings, inventory=inventory)
    try:
        vm.listen(tell)
    except Interrupted as signal:
        clean_up(vm)
        return depart(-signal.number)
    try:
        if settings.pid_file is not None:
            from qmpd.server.pid_file import PidFile

            vm.pid_file = PidFile(settings.pid_file)
        if on_listening is not None:
            on_listening()
        if "NOTIFY_SOCKET" in os.environ:
            from qmpd.server.systemd import notify

            notify("READY=1")
        log.never_wait()
        # What is there by now stays; from here on garbage is looked for, but not in that.
        gc.freeze()
        gc.enable()
        status = trio.run(serve_process, vm, (), on_start)
        if vm.puppet_host is None or not vm.puppet_host.killed:
            clean_up(vm)
        return depart(status)
    finally:
        clean_up(vm)
        log.finish()


def depart(status: int) -> int:
    """The exit status, unless it is the negative of a signal's number: then the process ends by that signal."""
    if status < 0:
        log.finish()
        from qmpd.server.puppet_host import die

        die(-status)
    return status


def clean_up(vm: VirtualMachine) -> None:
    """Take away the files that this process has made and nobody has taken over."""
    vm.let_go()
    if vm.pid_file is not None:
        vm.pid_file.remove()
        vm.pid_file = None
    if vm.settings.folder is not None:
        with contextlib.suppress(OSError):
            os.rmdir(vm.settings.folder)  # where something else was put there, it is not ours to remove


async def serve_process(
    vm: VirtualMachine, first: Iterable[signals.Signal] = (), on_start: Callable[[], None] | None = None
) -> int:
    """Run a machine that has this process for itself; the result is the exit status.

    `first` are signals that have come already.
    """
    vm.system.threads = IdleThreads(named=vm.settings.thread_names)
    inbox = signals.Inbox()

    def take_signals() -> bool:
        # Once the machine is another process's, that process is told.
        if vm.handed_over:
            return False
        taken = inbox.take()
        for signal in taken:
            terminate(vm, signal)
        return bool(taken)

    vm.loop.take_signals = take_signals
    trio.lowlevel.spawn_system_task(inbox.watch, vm.loop.wake)
    for signal in first:
        terminate(vm, signal)
    if "live-update" not in vm.system.release.extensions:
        return await vm.run(on_start)
    from qmpd.server.hand_over.parent import Parent

    parent = vm.system.updater = Parent(vm, inbox)
    status = await vm.run(on_start)
    if vm.handed_over:
        parent.pass_signals_on()
        # Standard error may be slow, and signals come meanwhile.
        log.finish()
        parent.pass_signals_on()
        # Nothing is left to clean up, and taking this process apart would only keep the computer from the child.
        os._exit(0)
    return status


def terminate(vm: VirtualMachine, signal: signals.Signal) -> None:
    """End the machine as a signal does; before it has started, the process as any other."""
    if vm.started:
        vm.system.machine.request_shutdown_by_signal(*signal)
    elif vm.system.exit_status is None:
        vm.system.exit_status = -signal[0]
    vm.loop.wake()
