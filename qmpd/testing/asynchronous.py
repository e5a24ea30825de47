"""VMs for code that runs under asyncio, anyio or trio: starting, waiting and ending let the event loop go on.

    async def test_reboot(qmpd_async):
        vm = await qmpd_async(guest="boot-time=2s", clock="virtual")
        vm.clock.advance(2)
        vm.guest.reboot()
        await vm.wait_for_event("RESET")
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, TypeVar

import sniffio

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from qmpd.testing.factory import VMFactory
    from qmpd.testing.patterns import Command, Event, Pattern
    from qmpd.testing.vm import VM

T = TypeVar("T")


async def in_thread(function: Callable[[], T]) -> T:
    """Call a function that takes its time in a thread; its result, or its exception, is the caller's."""
    if sniffio.current_async_library() == "asyncio":
        return await asyncio.get_running_loop().run_in_executor(None, function)
    import trio

    return await trio.to_thread.run_sync(function)


class AsyncVM:
    """A VM whose waiting methods are coroutines.  `vm` is the same VM as other code has it.

    `guest`, `agent`, `clock`, `faults`, `replies` and `transcript` are the VM's own: their methods do not wait for
    anything.  Assertions are the VM's, too.
    """

    def __init__(self, vm: VM) -> None:
        self.vm = vm
        self.guest = vm.guest
        self.clock = vm.clock
        self.agent = vm.agent
        self.faults = vm.faults
        self.replies = vm.replies
        self.transcript = vm.transcript
        self.assert_sent = vm.assert_sent
        self.assert_not_sent = vm.assert_not_sent
        self.report = vm.report

    @property
    def qmp_path(self) -> str:
        """The path of the QMP socket, the first where there are several."""
        return self.vm.qmp_path

    @property
    def qmp_paths(self) -> list[str]:
        """The paths of the QMP sockets."""
        return self.vm.qmp_paths

    @property
    def release(self) -> str:
        """The release of QEMU that it is."""
        return self.vm.release

    @property
    def events(self) -> list[Event]:
        """The events that the VM has emitted since the transcript was last reset."""
        return self.vm.events

    @property
    def commands(self) -> list[Command]:
        """The commands that clients have sent since the transcript was last reset."""
        return self.vm.commands

    @property
    def run_state(self) -> str:
        """The run state, as `query-status` tells it."""
        return self.vm.run_state

    @property
    def exit_status(self) -> int | None:
        """The VM's exit status; None as long as it runs."""
        return self.vm.exit_status

    async def wait_for_event(
        self, name: str | re.Pattern[str], data: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> Event:
        """Wait until the VM emits an event; see `VM.wait_for_event`.

        :raise WaitTimeoutError: it does not.
        """
        __tracebackhide__ = True
        return await self.vm.wait_for_event_async(name, data, **_within(timeout))

    async def wait_for_command(self, pattern: Pattern, /, *, timeout: float | None = None, **members: Any) -> Command:
        """Wait until a client sends a command; see `VM.wait_for_command`.

        :raise WaitTimeoutError: none does.
        """
        __tracebackhide__ = True
        return await self.vm.wait_for_command_async(pattern, **_within(timeout), **members)

    async def wait_for_run_state(self, state: str, *, timeout: float | None = None) -> None:
        """Wait until the VM is in a run state; nothing where it is.

        :raise WaitTimeoutError: it does not get there.
        """
        __tracebackhide__ = True
        await self.vm.wait_for_run_state_async(state, **_within(timeout))

    async def wait_until_ended(self, *, timeout: float | None = None) -> int:
        """Wait until the VM has ended; its exit status.

        :raise WaitTimeoutError: it runs on.
        """
        __tracebackhide__ = True
        return await self.vm.wait_until_ended_async(**_within(timeout))

    async def close(self) -> None:
        """End the VM; nothing happens where that has been done."""
        await in_thread(self.vm.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _within(timeout: float | None) -> dict[str, Any]:
    return {} if timeout is None else {"timeout": timeout}


class AsyncVMFactory:
    """Starts VMs: `vm = await qmpd_async(...)`, with the arguments of `qmpd.testing.start`.

    `vms` are those that it has started.
    """

    def __init__(self, factory: VMFactory) -> None:
        self.vms: list[AsyncVM] = []
        self._factory = factory

    async def __call__(
        self,
        *,
        machine: str = "pc",
        guest: str | Mapping[str, Any] | None = None,
        release: str | None = None,
        clock: str = "real",
        options: Sequence[str] = (),
        command_line: Sequence[str] | None = None,
        monitors: int = 1,
        exclusive: bool = False,
        wait: bool = False,
        subprocess: bool = False,
    ) -> AsyncVM:
        """Start a VM; see `qmpd.testing.start`.

        :raise StartError: an option is wrong, or a socket cannot be made.
        """
        start = functools.partial(
            self._factory,
            machine=machine,
            guest=guest,
            release=release,
            clock=clock,
            options=options,
            command_line=command_line,
            monitors=monitors,
            exclusive=exclusive,
            wait=wait,
            subprocess=subprocess,
        )
        vm = AsyncVM(await in_thread(start))
        self.vms.append(vm)
        return vm
