"""The commands of QAPI module `misc` about open files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from qmpd.machine import RunState
from qmpd.monitor.commands import command
from qmpd.monitor.errors import CommandError
from qmpd.monitor.results import EMPTY
from qmpd.system.descriptors import Descriptors

if TYPE_CHECKING:
    from qmpd.monitor.commands import Arguments
    from qmpd.monitor.dispatcher import Dispatcher
    from qmpd.monitor.session import Session
    from qmpd.system.descriptors import Source


def _table(dispatcher: Dispatcher) -> Descriptors:
    if dispatcher.descriptors is None:
        dispatcher.descriptors = Descriptors()
    return dispatcher.descriptors


def _take(session: Session) -> int:
    """The file that has come with the command.

    :raise CommandError: none has.
    """
    source = getattr(session.owner, "socket", None)
    number = cast("Source", source).take_descriptor() if hasattr(source, "take_descriptor") else None
    if number is None:
        raise CommandError("No file descriptor supplied via SCM_RIGHTS")
    return number


@command("getfd")
def getfd(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    name = cast("str", arguments["fdname"])
    number = _take(session)
    if name[:1].isdigit():
        os.close(number)
        raise CommandError("Parameter 'fdname' expects a name not starting with a digit")
    _table(dispatcher).name(session.label, name, number)
    return EMPTY


@command("closefd")
def closefd(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    _table(dispatcher).forget(session.label, cast("str", arguments["fdname"]))
    return EMPTY


@command("add-fd")
def add_fd(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    number = _take(session)
    identifier = cast("int | None", arguments.get("fdset-id"))
    if identifier is not None and identifier < 0:
        os.close(number)
        raise CommandError("Parameter 'fdset-id' expects a non-negative value")
    identifier = _table(dispatcher).add(number, identifier, cast("str | None", arguments.get("opaque")))
    return {"fdset-id": identifier, "fd": number}


@command("remove-fd")
def remove_fd(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    at_once = dispatcher.release.behaviour.removed_files_close_at_once or dispatcher.machine.state is RunState.RUNNING
    _table(dispatcher).remove(cast("int", arguments["fdset-id"]), cast("int | None", arguments.get("fd")), at_once)
    return EMPTY


@command("query-fdsets")
def query_fdsets(dispatcher: Dispatcher, session: Session, arguments: Arguments) -> object:
    return dispatcher.descriptors.describe() if dispatcher.descriptors is not None else []
