"""The human monitor's commands for the NBD server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.integers import is_digits
from qmpd.common.refusals import Refusal
from qmpd.human.asking import execute
from qmpd.monitor.commands.block_export import start_server

if TYPE_CHECKING:
    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.system.system import System

_URI_KINDS = ("unix:", "vsock:", "fd:", "tcp:")


def _start(system: System, line: Line) -> str:
    every, writable = line.flag("a", "w"), line.flag("w")
    uri = line.required()
    line.end()
    if writable and not every:
        raise Refusal("nbd-writable-alone")
    start_server(system, line.client, _address(uri, named=system.release.behaviour.tcp_addresses_named), {})
    if every:
        _export_all(system, writable=writable)
    return ""


def _address(uri: str, *, named: bool) -> dict[str, Any]:
    """The flat SocketAddress that a text is (QEMU's `socket_parse`); `named`: one of TCP may say so.

    :raise Refusal: it is none.
    """
    kind = next((each for each in _URI_KINDS if uri.startswith(each) and (named or each != "tcp:")), "")
    rest = uri.removeprefix(kind)
    if kind in ("unix:", "fd:"):
        if not rest:
            raise Refusal("address-invalid", uri=uri)
        return {"type": "unix", "path": rest} if kind == "unix:" else {"type": "fd", "str": rest}
    first, *options = rest.split(",")
    bracketed = first.startswith("[")
    host, colon, port = first.removeprefix("[").partition("]:" if bracketed else ":")
    if not colon or not port:
        raise Refusal("address-unreadable", text=rest)
    if kind == "vsock:":
        return {"type": "vsock", "cid": host, "port": port}
    ends = [each.removeprefix("to=") for each in options if each.startswith("to=")]
    return {"type": "inet", "host": host, "port": port, **({"to": ends[0]} if ends and is_digits(ends[0]) else {})}


def _export_all(system: System, *, writable: bool) -> None:
    """Export what is in every drive, under the drive's name; where one cannot be, none is."""
    try:
        for drive in list(system.inventory.backends.block.drives):
            if drive.node is not None:
                if not drive.name:
                    # QEMU looks for it by a name that it does not have.
                    system.inventory.backends.block.find("")
                may = writable and not drive.node.read_only
                given = {"type": "nbd", "id": drive.name, "node-name": drive.node.name, "writable": may}
                execute(system, "block-export-add", {**given, "name": drive.name})
    except Refusal:
        system.exports.stop()
        raise


def _add(system: System, line: Line) -> str:
    given: dict[str, Any] = {"writable": line.flag("w"), "device": line.required("block device name")}
    if not line.is_at_end():
        given["name"] = line.required()
    line.end()
    return execute(system, "nbd-server-add", given)


def _remove(system: System, line: Line) -> str:
    force = line.flag("f")
    name = line.required()
    line.end()
    return execute(system, "nbd-server-remove", {"name": name, "mode": "hard" if force else "safe"})


def _stop(system: System, line: Line) -> str:
    line.end()
    return execute(system, "nbd-server-stop", {})


PARTS: dict[str, Part] = {
    "nbd_server_add": _add,
    "nbd_server_remove": _remove,
    "nbd_server_start": _start,
    "nbd_server_stop": _stop,
}
"""The commands, by their names."""

MEANINGS = {
    "nbd_server_add": "[-w] DEVICE [NAME] -- export a drive or a node over NBD",
    "nbd_server_remove": "[-f] NAME -- export something no more",
    "nbd_server_start": "[-a] [-w] ADDRESS -- let NBD clients connect; -a exports all drives",
    "nbd_server_stop": "-- let NBD clients connect no more",
}
