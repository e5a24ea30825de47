"""QAPI module `migration`, as far as no migration is ever under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.monitor.commands import command
from qmpd.monitor.errors import CommandError

if TYPE_CHECKING:
    from qmpd.monitor.commands import Arguments
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.session import Session


@command("migrate-pause")
def migrate_pause(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    raise CommandError(dispatcher.release.behaviour.migrate_pause_refusal)
