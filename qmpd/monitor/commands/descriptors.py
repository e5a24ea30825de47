"""The commands of QAPI module `misc` about open files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system.descriptors import Descriptors

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.descriptors import Source
    from qmpd.system.system import System


def _table(system: System) -> Descriptors:
    if system.descriptors is None:
        system.descriptors = Descriptors()
    return system.descriptors


def _take(session: Client) -> int:
    """The file that has come with the command.

    :raise CommandError: none has.
    """
    source = getattr(session.owner, "socket", None)
    number = cast("Source", source).take_descriptor() if hasattr(source, "take_descriptor") else None
    if number is None:
        raise CommandError("No file descriptor supplied via SCM_RIGHTS")
    return number


@command("getfd")
def getfd(system: System, session: Client, arguments: Arguments) -> object:
    name = cast("str", arguments["fdname"])
    number = _take(session)
    if name[:1].isdigit():
        os.close(number)
        raise CommandError("Parameter 'fdname' expects a name not starting with a digit")
    _table(system).name(session.label, name, number)
    return EMPTY


@command("closefd")
def closefd(system: System, session: Client, arguments: Arguments) -> object:
    _table(system).forget(session.label, cast("str", arguments["fdname"]))
    return EMPTY


@command("add-fd")
def add_fd(system: System, session: Client, arguments: Arguments) -> object:
    number = _take(session)
    identifier = cast("int | None", arguments.get("fdset-id"))
    if identifier is not None and identifier < 0:
        os.close(number)
        raise CommandError("Parameter 'fdset-id' expects a non-negative value")
    identifier = _table(system).add(number, identifier, cast("str | None", arguments.get("opaque")))
    return {"fdset-id": identifier, "fd": number}


@command("remove-fd")
def remove_fd(system: System, session: Client, arguments: Arguments) -> object:
    identifier, number = cast("int", arguments["fdset-id"]), cast("int | None", arguments.get("fd"))
    _table(system).remove(identifier, number, system.removed_files_close)
    return EMPTY


@command("query-fdsets")
def query_fdsets(system: System, session: Client, arguments: Arguments) -> object:
    return system.descriptors.describe() if system.descriptors is not None else []
