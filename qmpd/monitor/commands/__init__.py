"""The commands, one module for each module of QAPI, and the table that finds them by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from qmpd.monitor.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.monitor.entry import Handler
    from qmpd.qapi import Release

# By their names in this package; one is in the room of another door.
MODULES = (
    "control", "run_state", "machine", "misc", "descriptors", "migration", "chardev", "qom", "qdev", "net", "balloon",
    "hardware", "block", "block_limits", "block_nodes", "ui", "qmpd.human.command",
)  # fmt: skip

_handlers: dict[str, Handler] = {}
_refusing: set[str] = set()


def command(name: str, *, refuses: bool = False) -> Callable[[Handler], Handler]:
    """Register the function that executes the command `name`.  It gives the value of `return`.

    It raises CommandError or MachineError where the command fails, and never sees arguments that the
    release's schema does not allow.  One that `refuses` only finds QEMU's reason to fail, where there is one.
    """

    def register(handler: Handler) -> Handler:
        _handlers[name] = handler
        if refuses:
            _refusing.add(name)
        return handler

    return register


def handlers(release: Release) -> dict[str, Handler]:
    """All commands that qmpd models, by name; those of the extensions where the release has any."""
    if "query-status" not in _handlers:
        for module in MODULES:
            import_module(module if "." in module else f"qmpd.monitor.commands.{module}")
    if release.extensions:
        import_module("qmpd.monitor.commands.live_update")
    return _handlers


def modelled(release: Release) -> set[str]:
    """The names of the commands whose effect qmpd models."""
    return handlers(release).keys() - _refusing


def find(release: Release, name: str) -> Entry | None:
    """The command `name` as this release has it; None where the release has no such command."""
    from qmpd.monitor.commands.unmodelled import answer_unmodelled

    description = release.commands.get(name)
    if description is None:
        return None
    # A twin's own answers come before what qmpd would compute.
    modelled = None if name in release.answered_first else handlers(release).get(name)
    handler = modelled or answer_unmodelled(name)
    if name == "blockdev-add":
        from qmpd.monitor.commands.waiting import waits_for_pipes

        handler = waits_for_pipes(handler)
    return Entry(
        name,
        handler,
        description.checker,
        allow_oob=description.allow_oob,
        allow_preconfig=description.allow_preconfig,
    )
