"""Commands that qmpd does not model: queries answer what a real machine answered, the others say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import NotModelled
from qmpd.monitor.errors import CommandError
from qmpd.qapi.captured import LOADING_MODULES
from qmpd.wire import Encoded

if TYPE_CHECKING:
    from qmpd.machine import MachineSettings
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments, Handler
    from qmpd.system.system import System

_WITHOUT_BOARD = "none"
_ABOUT_ACPI = "query-acpi-ospm-status"


def _reference(name: str, settings: MachineSettings) -> str:
    """The reference machine whose answer to a query fits the machine."""
    board = settings.board
    if name in board.lacking or (name == _ABOUT_ACPI and not settings.acpi):
        return _WITHOUT_BOARD
    return board.reference


def answer_unmodelled(name: str) -> Handler:
    """The handler of a command that no module of this package implements."""

    def handler(system: System, session: Client, arguments: Arguments) -> object:
        release, settings = system.release, system.settings
        if release.commands[name].captured:
            values = {"memory": settings.memory, "cpus": settings.topology.cpus}
            found = release.captured(name, arguments, _reference(name, settings), values, modules=system.modules_loaded)
            if name == LOADING_MODULES:
                system.modules_loaded = True
            if isinstance(found, bytes):
                return Encoded(found)
            if found is not None:
                raise CommandError(found.description, found.error_class)
            raise CommandError(f"qmpd does not know what {name} answers to these arguments")
        raise refusal(name)

    return handler


def refusal(name: str) -> NotModelled:
    """What is said of a command that would act on what qmpd does not model."""
    return NotModelled(f"the command {name}")
