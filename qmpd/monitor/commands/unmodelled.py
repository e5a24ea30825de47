"""Commands that qmpd does not model: queries answer what a real machine answered, the others say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.monitor.errors import CommandError

if TYPE_CHECKING:
    from qmpd.monitor.commands import Arguments, Handler
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.session import Session


def answer_unmodelled(name: str) -> Handler:
    """The handler of a command that no module of this package implements."""

    def handler(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
        raise CommandError(f"qmpd does not model the command {name}")

    return handler
