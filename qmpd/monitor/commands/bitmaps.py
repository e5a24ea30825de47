"""Dirty bitmaps: a part of QAPI module `block-core`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.block.bitmaps import rules
from qmpd.monitor.commands.carrying import carried_out
from qmpd.monitor.registry import command

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.transactions import Action
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


def _named(arguments: Arguments) -> tuple[str, str]:
    return cast("str", arguments["node"]), cast("str", arguments["name"])


def add(system: System, arguments: Arguments) -> Action:
    """Make a bitmap."""
    return rules.Add(
        system.inventory.backends.block, *_named(arguments), cast("int | None", arguments.get("granularity")),
        persistent=bool(arguments.get("persistent")), disabled=bool(arguments.get("disabled")),
        stores_anywhere=not system.release.behaviour.persistent_bitmaps_need_writing,
    )  # fmt: skip


def remove(system: System, arguments: Arguments) -> Action:
    """Take a bitmap away."""
    return rules.Remove(system.inventory.backends.block, *_named(arguments))


def clear(system: System, arguments: Arguments) -> Action:
    """Leave nothing dirty."""
    return rules.Clear(system.inventory.backends.block, *_named(arguments))


def enable(system: System, arguments: Arguments) -> Action:
    """Have a bitmap note writes."""
    return rules.Switch(system.inventory.backends.block, *_named(arguments), enabled=True)


def disable(system: System, arguments: Arguments) -> Action:
    """Have a bitmap note nothing."""
    return rules.Switch(system.inventory.backends.block, *_named(arguments), enabled=False)


def merge(system: System, arguments: Arguments) -> Action:
    """Have dirty what other bitmaps have."""
    given = cast("list[Any]", arguments["bitmaps"])
    sources: list[str | tuple[str, str]] = [
        each if isinstance(each, str) else (each["node"], each["name"]) for each in given
    ]
    where = cast("str", arguments["node"]), cast("str", arguments["target"])
    return rules.Merge(system.inventory.backends.block, *where, sources)


ACTIONS: dict[str, Callable[[System, Arguments], Action]] = {
    "block-dirty-bitmap-add": add,
    "block-dirty-bitmap-remove": remove,
    "block-dirty-bitmap-clear": clear,
    "block-dirty-bitmap-enable": enable,
    "block-dirty-bitmap-disable": disable,
    "block-dirty-bitmap-merge": merge,
}
"""The commands that are actions of a transaction as well, and what makes the action of the arguments."""


def _register(name: str, make: Callable[[System, Arguments], Action]) -> None:
    @command(name)
    def handler(system: System, session: Client, arguments: Arguments) -> object:
        return carried_out(system, [make(system, arguments)])


for _name, _make in ACTIONS.items():
    _register(_name, _make)


@command("x-debug-block-dirty-bitmap-sha256")
def x_debug_block_dirty_bitmap_sha256(system: System, session: Client, arguments: Arguments) -> object:
    _, bitmap = rules.find(system.inventory.backends.block, *_named(arguments))
    return {"sha256": bitmap.digest()}
