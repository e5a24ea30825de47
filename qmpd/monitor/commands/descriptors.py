"""The commands of QAPI module `misc` about open files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from qmpd.common.integers import is_digits
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system import chardevs
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
    if is_digits(name[:1]):
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
    _table(system).remove(identifier, number, system.removed_files_close, system.sets_of_nodes())
    return EMPTY


@command("query-fdsets")
def query_fdsets(system: System, session: Client, arguments: Arguments) -> object:
    return system.descriptors.describe(system.sets_of_nodes()) if system.descriptors is not None else []


# What the other protocols of `add_client` are called; a display for one of the latter two is never there.
_VNC = "vnc"
_ABSENT = {"spice": "display-spice-missing", "@dbus-display": "display-bus-missing"}


@command("add_client")
def add_client(system: System, session: Client, arguments: Arguments) -> object:
    """A file that has a name (`getfd`) is a new client, of a display or of a character device that listens."""
    name, protocol = cast("str", arguments["fdname"]), cast("str", arguments["protocol"])
    files = _table(system)
    number = files.take(session.label, name)
    if number is None:
        raise Refusal("descriptor-name-missing", name=name)
    if system.release.behaviour.client_files_checked and system.computer.descriptor_kind(number) != "socket":
        files.close(number)
        raise Refusal("add-client-no-socket")
    if protocol not in (_VNC, *_ABSENT) and chardevs.find(system, protocol) is not None:
        chardevs.give_client(system, protocol, number)
        return EMPTY
    files.close(number)
    if protocol in _ABSENT:
        raise Refusal(_ABSENT[protocol])
    if protocol != _VNC:
        raise Refusal("add-client-protocol", name=protocol)
    if system.settings.vnc:
        raise NotModelled("clients of VNC displays")
    return EMPTY
