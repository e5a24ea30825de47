"""QAPI module `block-export`: the NBD server and what is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.block.exports.bitmaps import exported
from qmpd.block.exports.exports import Export, Server
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.hardware.credentials import tls_credentials
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY

if TYPE_CHECKING:
    from qmpd.block.exports.exports import Listening
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

_HARD = "hard"
_SMALLEST_BLOCK, _LARGEST_BLOCK = 512, 2 << 20


# The server


@command("nbd-server-start")
def nbd_server_start(system: System, session: Client, arguments: Arguments) -> object:
    start_server(system, session, _flat(cast("dict[str, Any]", arguments["addr"])), arguments)
    return EMPTY


def start_server(system: System, session: Client | None, address: dict[str, Any], options: Arguments) -> None:
    """Start the NBD server; the address is a flat SocketAddress.

    :raise Refusal: it runs, its credentials are none, or the address cannot be had.
    """
    exports = system.exports
    exports.check_stopped()
    behaviour = system.release.behaviour
    server = Server(
        limit=cast("int", options.get("max-connections", behaviour.nbd_clients)),
        patience=cast("int", options.get("handshake-max-seconds", behaviour.nbd_patience)),
        credentials=_credentials(system, options.get("tls-creds")),
        authorization=cast("str | None", options.get("tls-authz")),
    )
    if server.credentials is not None and behaviour.nbd_tls_over_ip_only and address["type"] != "inet":
        raise Refusal("nbd-tls-over-ip")
    if address["type"] == "fd":
        address = {"type": "fd", "str": _descriptor(system, session, str(address["str"]))}
    if system.host is None:
        raise NotModelled("an NBD server of a machine that nobody serves")
    server.listening = system.host.open_nbd_server(address)
    exports.server = server


def _flat(legacy: dict[str, Any]) -> dict[str, Any]:
    """The address as QAPI's SocketAddress has it."""
    return {"type": legacy["type"], **legacy["data"]}


def _descriptor(system: System, session: Client | None, name: str) -> str:
    """The file that has this name, by its number."""
    label = "" if session is None else session.label
    number = None if system.descriptors is None else system.descriptors.take(label, name)
    if number is None:
        raise Refusal("descriptor-name-missing", name=name)
    return str(number)


def _credentials(system: System, identifier: object) -> dict[str, Any] | None:
    """The properties of the object with TLS credentials."""
    return None if identifier is None else tls_credentials(system.tree, str(identifier), endpoint="server")


@command("nbd-server-stop")
def nbd_server_stop(system: System, session: Client, arguments: Arguments) -> object:
    system.exports.stop()
    return EMPTY


# Exports


@command("nbd-server-add")
def nbd_server_add(system: System, session: Client, arguments: Arguments) -> object:
    """An export whose id is its name, and that is read-only where its node is."""
    node = system.inventory.backends.block.find(str(arguments["device"]))
    name = str(arguments.get("name", arguments["device"]))
    given: dict[str, Any] = {
        "id": name, "node-name": node.name, "name": name,
        "writable": bool(arguments.get("writable")) and not node.read_only,
    }  # fmt: skip
    if "description" in arguments:
        given["description"] = arguments["description"]
    if "bitmap" in arguments:
        given["bitmaps"] = [arguments["bitmap"]]
    _add_nbd(system, given)
    drive = system.inventory.backends.block.drive(str(arguments["device"]))
    if drive is not None:
        system.exports.follow(system.exports.find(name), drive)
    return EMPTY


@command("nbd-server-remove")
def nbd_server_remove(system: System, session: Client, arguments: Arguments) -> object:
    return _delete(system, arguments["name"], arguments)


@command("block-export-add")
def block_export_add(system: System, session: Client, arguments: Arguments) -> object:
    kind = arguments["type"]
    if kind == "nbd":
        _add_nbd(system, arguments)
        return EMPTY
    exports = system.exports
    identifier, writable = str(arguments["id"]), bool(arguments.get("writable"))
    node = exports.check_new(identifier, str(arguments["node-name"]), writable=writable)
    _check_iothread(system, arguments)
    user = exports.use(
        node, str(kind), writable=writable, writethrough=bool(arguments.get("writethrough")),
        keeps_inactive=bool(arguments.get("allow-inactive")),
    )  # fmt: skip
    export = Export(identifier, "", user, str(kind), writable=writable)
    try:
        export.listening = _open(system, export, arguments)
    except Refusal:
        system.inventory.backends.block.empty(user)
        raise
    exports.add(export)
    return EMPTY


def _open(system: System, export: Export, arguments: Arguments) -> Listening:
    """The sockets of an export that is none of NBD's.

    :raise Refusal: this computer has not what it needs, or the address cannot be had.
    """
    if export.kind != "vhost-user-blk":
        # The kernel's side of these is never there.
        raise Refusal("export-vduse" if export.kind == "vduse-blk" else "export-fuse")
    _check_block_size(system, export.identifier, cast("int", arguments.get("logical-block-size", _SMALLEST_BLOCK)))
    if not arguments.get("num-queues", 1):
        raise Refusal("export-queues")
    if system.host is None:
        raise NotModelled("exports of a machine that nobody serves")
    listening = system.host.open_front_end(cast("dict[str, Any]", arguments["addr"]), export.identifier)
    system.machine.report(f"warning: qmpd does not model what goes through the vhost-user-blk export "
                          f"'{export.identifier}': whoever connects is turned away")  # fmt: skip
    return listening


def _check_block_size(system: System, identifier: str, size: int) -> None:
    is_power = not size & (size - 1)
    in_range = _SMALLEST_BLOCK <= size <= _LARGEST_BLOCK
    if not size or (is_power and in_range):
        return
    if not system.release.behaviour.block_sizes_apart:
        raise Refusal("export-block-size")
    raise Refusal("export-block-size-power" if in_range else "export-block-size-range", id=identifier, size=size)


def _add_nbd(system: System, arguments: Arguments) -> None:
    exports = system.exports
    identifier, writable = str(arguments["id"]), bool(arguments.get("writable"))
    node = exports.check_new(identifier, str(arguments["node-name"]), writable=writable)
    _check_iothread(system, arguments)
    writethrough = bool(arguments.get("writethrough"))
    user = exports.use(
        node, "nbd", writable=writable, writethrough=writethrough,
        keeps_inactive=bool(arguments.get("allow-inactive")),
    )  # fmt: skip
    export = Export(
        identifier, str(arguments.get("name", arguments["node-name"])), user,
        description=str(arguments.get("description", "")), writable=writable, writethrough=writethrough,
        tells_depth=bool(arguments.get("allocation-depth")),
    )  # fmt: skip
    wanted, graph = cast("list[Any]", arguments.get("bitmaps", [])), system.inventory.backends.block
    exports.add_nbd(export, bitmaps=lambda: exported(graph, node, wanted, writable=writable))


def _check_iothread(system: System, arguments: Arguments) -> None:
    """Requests run in no thread of an object's; that there is one is seen to."""
    identifier = arguments.get("iothread")
    if identifier is None:
        return
    node = system.tree.find(f"/objects/{identifier}")
    if node is None or node.type != "iothread":
        raise Refusal("export-iothread-missing", id=identifier)


@command("block-export-del")
def block_export_del(system: System, session: Client, arguments: Arguments) -> object:
    return _delete(system, arguments["id"], arguments)


def _delete(system: System, identifier: object, arguments: Arguments) -> object:
    exports = system.exports
    exports.delete(exports.find(str(identifier)), hard=arguments.get("mode") == _HARD)
    return EMPTY


@command("query-block-exports")
def query_block_exports(system: System, session: Client, arguments: Arguments) -> object:
    return [] if not system.has_exports else [each.describe() for each in system.exports.newest_first()]
