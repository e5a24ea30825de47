"""Where the modules of commands enter what they execute."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.monitor.entry import Handler

HANDLERS: dict[str, Handler] = {}
"""What executes each command, of the modules that have been imported by now."""

REFUSING: set[str] = set()
"""Those of them that only find a reason to fail."""


def command(name: str, *, refuses: bool = False) -> Callable[[Handler], Handler]:
    """Register the function that executes the command `name`.  It gives the value of `return`.

    It raises CommandError or MachineError where the command fails, and never sees arguments that the
    release's schema does not allow.  One that `refuses` only finds QEMU's reason to fail, where there is one.
    """

    def register(handler: Handler) -> Handler:
        HANDLERS[name] = handler
        if refuses:
            REFUSING.add(name)
        return handler

    return register
