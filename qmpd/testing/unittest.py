"""VMs in tests of the standard library's `unittest`.

    class PowerButton(VMTestCase):
        def test_a_guest_that_ignores_it(self):
            vm = self.start_vm(guest="on-powerdown=none", clock="virtual")
            ...
            vm.assert_sent("system_powerdown", "quit")
"""

from __future__ import annotations

import contextlib
import inspect
import unittest
from typing import TYPE_CHECKING, Any

from qmpd.testing.starting import RELEASE, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qmpd.testing.vm import VM

LINES = 200
"""Entries of a transcript that a failure shows."""


class VMTestCase(unittest.TestCase):
    """A test case that starts VMs; also a mixin for others, such as `unittest.IsolatedAsyncioTestCase`.

    The VMs are closed when the test has ended.  Where it fails, the failure's text ends with their transcripts.
    `release` is the release of QEMU for the whole class.
    """

    release: str = RELEASE

    def start_vm(
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
    ) -> VM:
        """Start a VM; see `qmpd.testing.start`.

        :raise StartError: an option is wrong, or a socket cannot be made.
        """
        vm = start(
            machine=machine,
            guest=guest,
            release=release or self.release,
            clock=clock,
            options=options,
            command_line=command_line,
            monitors=monitors,
            exclusive=exclusive,
            wait=wait,
            subprocess=subprocess,
        )
        self.addCleanup(vm.close)
        self._vms.append(vm)
        return vm

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test, and let what it raises tell what its VMs have seen."""
        self._vms: list[VM] = []
        name = self._testMethodName
        method = getattr(self, name)

        def shown() -> Any:
            with self._telling():
                return method()

        async def shown_async() -> None:
            with self._telling():
                await method()

        setattr(self, name, shown_async if inspect.iscoroutinefunction(method) else shown)
        try:
            return super().run(result)
        finally:
            delattr(self, name)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except unittest.SkipTest:
            raise
        except Exception as error:
            for number, vm in enumerate(self._vms, 1):
                title = "qmpd transcript" + (f" of VM {number}" if len(self._vms) > 1 else "")
                error.add_note(f"\n{title}\n{vm.report(LINES)}")
            raise
