"""Serve one virtual machine from the first to its last."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from qmpd.server import signals
from qmpd.server.virtual_machine import VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.server.settings import VMSettings


def serve(settings: VMSettings, on_listening: Callable[[], None] | None = None) -> int:
    """Listen, call `on_listening`, and serve until the machine ends; the result is its exit status.

    Signals end the machine as they end QEMU; this must be the process's main thread.

    :raise ListenError: a socket cannot be made.
    :raise PidFileError: the pid file cannot be made or locked.
    :raise UnknownRelease: there is no release of that name.
    """
    vm = VirtualMachine(settings)
    vm.listen()
    pid_file = None
    try:
        if settings.pid_file is not None:
            from qmpd.server.pid_file import PidFile

            pid_file = PidFile(settings.pid_file)
        if on_listening is not None:
            on_listening()
        signals.block()
        return trio.run(_run, vm)
    finally:
        vm.close_listeners()
        if pid_file is not None:
            pid_file.remove()


async def _run(vm: VirtualMachine) -> int:
    token = trio.lowlevel.current_trio_token()

    def received(number: int, pid: int, name: str) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(terminate, number, pid, name)

    def terminate(number: int, pid: int, name: str) -> None:
        vm.dispatcher.machine.request_shutdown_by_signal(number, pid, name)
        vm.wake()

    signals.watch(received)
    return await vm.run()
