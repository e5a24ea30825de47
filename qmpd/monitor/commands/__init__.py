"""The commands, one module for each module of QAPI, and the table that finds them by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from qmpd.monitor.entry import Entry
from qmpd.monitor.registry import HANDLERS, REFUSING

if TYPE_CHECKING:
    from qmpd.monitor.entry import Handler
    from qmpd.qapi import Release

# Named, and not imported: a server that starts looks no command up yet.
MODULES = (
    "qmpd.monitor.commands.control", "qmpd.monitor.commands.run_state", "qmpd.monitor.commands.machine",
    "qmpd.monitor.commands.misc", "qmpd.monitor.commands.descriptors", "qmpd.monitor.commands.migration",
    "qmpd.monitor.commands.chardev", "qmpd.monitor.commands.qom", "qmpd.monitor.commands.qdev",
    "qmpd.monitor.commands.net", "qmpd.monitor.commands.balloon", "qmpd.monitor.commands.hardware",
    "qmpd.monitor.commands.block", "qmpd.monitor.commands.block_limits",
    "qmpd.monitor.commands.block_nodes", "qmpd.monitor.commands.ui", "qmpd.monitor.commands.refusing",
)  # fmt: skip
_EXTENSIONS = "qmpd.monitor.commands.live_update"


def handlers(release: Release) -> dict[str, Handler]:
    """All commands that qmpd models, by name; those of the extensions where the release has any."""
    if "query-status" not in HANDLERS:
        for module in MODULES:
            import_module(module)
    if release.extensions:
        import_module(_EXTENSIONS)
    return HANDLERS


def modelled(release: Release) -> set[str]:
    """The names of the commands whose effect qmpd models."""
    return handlers(release).keys() - REFUSING


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
