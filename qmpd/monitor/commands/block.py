"""QAPI modules `block` and `block-core`: nodes, drives and their media."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.block import blockers
from qmpd.block.alignment import limits_of_format, past_the_cache, strictest
from qmpd.block.changes import take_out_medium
from qmpd.block.description import cluster_of, describe, filename_of, is_encrypted, passed_through
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.filenames import of_file
from qmpd.block.flat import flatten
from qmpd.block.nodes import NAMELESS
from qmpd.block.opening import Opener
from qmpd.block.requests import keeps_status
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import DeviceNotFound
from qmpd.monitor.errors import CommandError
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY, as_put_in
from qmpd.schedule.schedule import Time
from qmpd.system.at_rest import at_rest

if TYPE_CHECKING:
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode, Drive
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

# What `info` of a captured node says of its image alone, and what the image of a format has instead.
_SECTOR = 512
_LIMITS = {"request-alignment": 1, "min-mem-alignment": _SECTOR, "opt-mem-alignment": 4096}
_IMAGE_OF_FILE = frozenset({"format-specific"})
_ANY_DRIVE = "ide-cd"
# What opens a file itself; no list has them.
_FILE_DRIVERS = ("file", "host_device", "host_cdrom")
# What an image asks of memory, it asks for what is behind it, too.
_MEMORY_LIMITS = ("min-mem-alignment", "opt-mem-alignment")


def _graph(system: System) -> BlockGraph:
    return system.inventory.backends.block


@command("blockdev-add")
def blockdev_add(system: System, session: Client, arguments: Arguments) -> object:
    if arguments.get("node-name") is None:
        raise CommandError("'node-name' must be specified for the root node")


    def add() -> object:
        Opener(_graph(system)).open(flatten(arguments), owned=True)
        return EMPTY

    return at_rest(system, add, arguments)


@command("blockdev-del")
def blockdev_del(system: System, session: Client, arguments: Arguments) -> object:
    def delete() -> object:
        blockers.delete(_graph(system), cast("str", arguments["node-name"]))
        return EMPTY

    return at_rest(system, delete)


# Queries


def _told(graph: BlockGraph) -> list[BlockNode]:
    """The nodes that queries tell of, in the order in which they came: QEMU ends at one that is left."""
    return [node for node in graph.nodes.values() if not node.is_left]


def _captured(system: System, driver: str) -> dict[str, Any]:
    """What was captured of nodes with this driver, or of those that are most like it."""
    builder = system.inventory.builder
    found = builder.captured("block", driver) or builder.captured("block", "null-co" if "null" in driver else "file")
    if found is None:
        raise CommandError(f"qmpd does not know what a {driver} node looks like")
    return found


def _shown(node: BlockNode) -> BlockNode:
    """The node that is told of where a user has not put the one there that it is in."""
    while node.implicit:
        node = node.children[DRIVERS[node.driver].first]
    return node


def _behind(node: BlockNode) -> BlockNode | None:
    """What shows behind a node: the image behind it, or what a filter is on."""
    behind = node.children.get("backing") or passed_through(node)
    return None if behind is None else _shown(behind)


def _has_unknown_room(node: BlockNode) -> bool:
    """Whether nobody can tell how many bytes a node takes: what tests other nodes tells nothing of theirs."""
    driver = DRIVERS[node.driver]
    if driver.is_filter and driver.is_protocol and driver.children:
        return True
    below = (driver.first,) if driver.is_filter else (name for name in node.children if name != "backing")
    with_data = (node.children[name] for name in below if name in node.children)
    return any(map(_has_unknown_room, with_data))


def _image(system: System, node: BlockNode, *, flat: bool) -> dict[str, Any]:
    """`ImageInfo` of a node."""
    bottom = node
    while (below := passed_through(bottom) or bottom.children.get("file")) is not None:
        bottom = below
    image: dict[str, Any] = {}
    if DRIVERS[bottom.driver].is_filter:
        # Several nodes below it are one.
        image["actual-size"] = 0
    else:
        image |= as_put_in(_captured(system, bottom.driver)["info"]["image"])
    if bottom is not node:
        image = {name: value for name, value in image.items() if name not in _IMAGE_OF_FILE}
    if "limits" in image and bottom.direct and bottom.driver in _FILE_DRIVERS:
        image["limits"] = past_the_cache(image["limits"], is_file=bottom is node)
    image |= {"filename": filename_of(node), "format": node.driver, "virtual-size": node.virtual_size}
    allocated = node.allocated
    if _has_unknown_room(node):
        image.pop("actual-size", None)
    elif bottom is node and DRIVERS[node.driver].is_filter:
        image["actual-size"] = sum(child.allocated or 0 for child in node.children.values())
    elif allocated is not None:
        image["actual-size"] = allocated
    elif bottom.driver == "nbd":
        image.pop("actual-size", None)
        if "limits" in image:
            from qmpd.block.drivers.nbd import limits_of

            image["limits"] = limits_of(bottom)
    if bottom.driver == "nbd":
        # Nobody knows what is there.
        image.pop("dirty-flag", None)
        if node is bottom:
            image.pop("format-specific", None)
    if node.driver == "snapshot-access":
        # It knows nothing of what it is on.
        image.pop("dirty-flag", None)
        aligned = _image(system, node.children["file"], flat=True).get("limits", {}).get("discard-alignment")
        if "limits" in image and aligned is not None:
            image["limits"] = {**image["limits"], "discard-alignment": aligned}
    if node.driver in ("qcow2", "qed"):
        image.setdefault("dirty-flag", False)
    image |= describe(node)
    cluster = cluster_of(node)
    if cluster is not None:
        image["cluster-size"] = cluster
    if "limits" in image and "cluster-size" in image:
        image["limits"] = {**image["limits"], **limits_of_format(node, image["cluster-size"])}
    if "limits" in image and node.probed and node.driver == "raw":
        # The first sector is looked at before it is written.
        image["limits"] = {**image["limits"], "request-alignment": max(image["limits"]["request-alignment"], _SECTOR)}
    if "limits" in image and is_encrypted(node):
        image["limits"] = {**image["limits"], "request-alignment": _SECTOR}
    if DRIVERS[node.driver].is_filter:
        first = node.children.get(DRIVERS[node.driver].first)
        children = sorted(node.children.values(), key=lambda child: child is not first)
        images = [_image(system, child, flat=True) for child in children]
        if len(images) == 1 and "snapshots" in images[0]:
            image["snapshots"] = images[0]["snapshots"]
        below_it = [each.get("limits") for each in images]
        if all(below_it):
            image["limits"] = strictest(cast("list[dict[str, int]]", below_it), node)
            image["limits"].pop("write-zeroes-alignment", None)
            if node.driver in NAMELESS:
                # Nobody has looked at what is below since it was put there.
                image["limits"] = {**_LIMITS, "max-iov": image["limits"]["max-iov"]}
    backing = _behind(node)
    if backing is not None and "limits" in image and "backing" in node.children and node.minds_backing:
        behind = _image(system, backing, flat=True).get("limits", {})
        image["limits"] = {
            name: max(value, behind.get(name, 0)) if name in _MEMORY_LIMITS else value
            for name, value in image["limits"].items()
        }
    if backing is not None and not flat:
        image["backing-image"] = _image(system, backing, flat=False)
    return image


def _information(system: System, node: BlockNode, *, flat: bool = False) -> dict[str, Any]:
    """`BlockDeviceInfo` of a node."""
    information: dict[str, Any] = {}
    if "backing" in node.children and not DRIVERS[node.driver].is_filter:
        information["backing_file"] = filename_of(node.children["backing"])
    information |= as_put_in(_captured(system, node.driver)["info"])
    depth, below = 0, _behind(node)
    while below is not None:
        depth, below = depth + 1, _behind(below)
    information |= {
        "node-name": node.name,
        "file": filename_of(node),
        "drv": node.driver,
        "ro": node.read_only,
        "detect_zeroes": node.detect_zeroes,
        "cache": {"writeback": True, "direct": node.direct, "no-flush": node.no_flush},
        "backing_file_depth": 0 if flat else depth,
        "write_threshold": node.threshold,
        "image": _image(system, node, flat=flat),
    }
    if is_encrypted(node):
        information["encrypted"] = information["image"]["encrypted"] = True
        if system.release.behaviour.luks_detached_header:
            data = information["image"]["format-specific"]["data"]
            data.get("encrypt", data)["detached-header"] = False
    if "active" in information:
        information["active"] = not node.inactive
    if node.bitmaps:
        information["dirty-bitmaps"] = _bitmaps(system, node)
    if "children" in information:
        information["children"] = [
            {"child": role, "node-name": child.name} for role, child in reversed(node.children.items())
        ]
    return information


def _bitmaps(system: System, node: BlockNode) -> list[dict[str, Any]]:
    from qmpd.block.bitmaps import rules

    return rules.describe(node, with_status=system.release.behaviour.bitmap_status)


@command("query-named-block-nodes")
def query_named_block_nodes(system: System, session: Client, arguments: Arguments) -> object:
    if system.is_bare:
        return []
    flat = bool(arguments.get("flat"))
    return [_information(system, node, flat=flat) for node in reversed(_told(_graph(system)))]


def _facts(system: System, drive: Drive) -> dict[str, Any]:
    """What was captured of the device that a drive is in."""
    if drive.device is None:
        return {}
    return system.inventory.builder.captured("device", drive.device.driver) or {}


@command("query-block")
def query_block(system: System, session: Client, arguments: Arguments) -> object:
    if system.is_bare:
        return []
    found = []
    for drive in _graph(system).drives:
        shown: dict[str, Any] = as_put_in(_facts(system, drive).get("block", {}))
        if not shown:
            shown = {"type": "unknown", "removable": drive.removable, "locked": False}
        if drive.options_id or not keeps_status(drive):
            # Once its name is taken away it reports errors, and keeps no account of them.
            shown.pop("io-status", None)
        if "io-status" in shown:
            shown["io-status"] = drive.io_status
        shown |= {"device": drive.name, "locked": drive.locked}
        if drive.qdev:
            shown["qdev"] = drive.qdev
        if drive.has_tray:
            shown["tray_open"] = drive.tray_open
        if drive.node is not None:
            inserted = {**_information(system, _shown(drive.node)), **(drive.limits or {})}
            inserted["cache"]["writeback"] = drive.caches
            shown["inserted"] = inserted
            if "dirty-bitmaps" in inserted and system.release.behaviour.bitmap_status:
                shown["dirty-bitmaps"] = inserted["dirty-bitmaps"]
        found.append(shown)
    return found


def _node_statistics(system: System, node: BlockNode, *, backing: bool) -> dict[str, Any]:
    """`BlockStats` of a node; `backing`: of a drive, with what is behind it, and without what nobody has put there."""
    if backing:
        node = _shown(node)
    captured: dict[str, Any] = as_put_in(_captured(system, node.driver)["stats"])
    if node.children or node.driver == "nbd":
        captured.pop("driver-specific", None)
    captured["node-name"] = node.name
    captured["stats"]["wr_highest_offset"] = node.highest
    data = _with_data(node)
    if data is not None:
        captured["parent"] = _node_statistics(system, data, backing=backing)
    below = passed_through(node) or node.children.get("backing")
    if below is not None and backing:
        captured["backing"] = _node_statistics(system, below, backing=True)
    return captured


def _with_data(node: BlockNode) -> BlockNode | None:
    """The only node below one that has the guest's bytes; None where several have them, or none."""
    passed = passed_through(node)
    if passed is not None:
        return passed
    voters = [child for name, child in node.children.items() if name not in ("file", "data-file", "backing")]
    return node.children.get("data-file") or node.children.get("file") or (voters[0] if len(voters) == 1 else None)


@command("query-blockstats")
def query_blockstats(system: System, session: Client, arguments: Arguments) -> object:
    if system.is_bare:
        return []
    graph = _graph(system)
    if arguments.get("query-nodes"):
        return [_node_statistics(system, node, backing=False) for node in _told(graph)]
    found = []
    for drive in graph.drives:
        if drive.name == "" and not drive.qdev:
            continue
        # A drive counts alike whatever it is in, but is shown with what has it.
        facts = _facts(system, drive) or system.inventory.builder.captured("device", _ANY_DRIVE) or {}
        shown: dict[str, Any] = as_put_in(facts.get("blockstats", {}))
        shown.pop("qdev", None)
        if drive.node is not None:
            of_node = _node_statistics(system, drive.node, backing=True)
            shown = {**of_node, **shown} if "stats" in shown else of_node
            shown["stats"] |= {"wr_highest_offset": drive.node.highest}
            shown.pop("driver-specific", None)
        shown |= {"device": drive.name}
        if drive.qdev:
            shown["qdev"] = drive.qdev
        if drive.accounting is not None and "stats" in shown:
            shown["stats"] |= drive.accounting.described(system.machine.schedule.now(Time.CLOCK))
        for kind, (boundaries, bins) in drive.histograms.items():
            if f"{kind}_operations" in shown["stats"]:
                shown["stats"][f"{kind}_latency_histogram"] = {"boundaries": boundaries, "bins": bins}
        if drive.statistics or drive.last_access is not None:
            shown["stats"] |= drive.statistics
            if drive.last_access is not None:
                shown["stats"]["idle_time_ns"] = system.machine.schedule.now(Time.CLOCK) - drive.last_access
        found.append(shown)
    return found


# Media


def find_drive(system: System, arguments: Arguments) -> Drive:
    """The drive that `id` or `device` names.

    :raise CommandError, MachineError: there is none.
    """
    identifier = cast("str | None", arguments.get("id"))
    name = cast("str | None", arguments.get("device"))
    if (identifier is None) == (name is None):
        raise CommandError("Need exactly one of 'device' and 'id'")
    graph = _graph(system)
    if name is not None:
        drive = graph.drive(name)
        if drive is None:
            raise DeviceNotFound(f"Device '{name}' not found")
        return drive
    assert identifier is not None
    # A part of a device has no id, and goes by its path.
    paths = (identifier, f"/machine/peripheral/{identifier}")
    part = next((each for each in graph.drives if each.qdev.startswith("/") and each.qdev in paths), None)
    if part is not None:
        return part
    device = system.devices.find(identifier)
    drive = graph.of_device(device)
    if drive is None or drive.qdev not in (device.identifier, device.path):
        raise CommandError("Device does not have a block device backend")
    return drive


def _named(arguments: Arguments) -> str:
    return cast("str", arguments.get("id") or arguments.get("device"))


def _open_tray(system: System, arguments: Arguments) -> tuple[Drive, bool]:
    """Open the tray of a drive; the drive, and whether the guest has it locked, so that it stays closed."""
    drive = find_drive(system, arguments)
    if not drive.removable:
        raise CommandError(f"Device '{_named(arguments)}' is not removable")
    if drive.locked and drive.has_tray and not drive.tray_open and not arguments.get("force"):
        return drive, True
    system.inventory.move_tray(drive, opened=True)
    return drive, False


@command("blockdev-open-tray")
def blockdev_open_tray(system: System, session: Client, arguments: Arguments) -> object:
    """The guest may open a tray that it has locked; this command is done by then."""
    _open_tray(system, arguments)
    return EMPTY


@command("blockdev-close-tray")
def blockdev_close_tray(system: System, session: Client, arguments: Arguments) -> object:
    drive = find_drive(system, arguments)
    if not drive.removable:
        raise CommandError(f"Device '{_named(arguments)}' is not removable")
    system.inventory.move_tray(drive, opened=False)
    return EMPTY


def _remove_medium(system: System, drive: Drive, name: str) -> None:
    if not drive.removable:
        raise CommandError(f"Device '{name}' is not removable")
    if drive.has_tray and not drive.tray_open:
        raise CommandError(f"Tray of device '{name}' is not open")
    take_out_medium(_graph(system), drive)


@command("blockdev-remove-medium")
def blockdev_remove_medium(system: System, session: Client, arguments: Arguments) -> object:
    def remove() -> object:
        _remove_medium(system, find_drive(system, arguments), _named(arguments))
        return EMPTY

    return at_rest(system, remove)


@command("blockdev-insert-medium")
def blockdev_insert_medium(system: System, session: Client, arguments: Arguments) -> object:
    graph = _graph(system)
    drive = find_drive(system, arguments)
    name = cast("str", arguments["node-name"])
    node = graph.nodes.get(name)
    if node is None:
        raise CommandError(f"Node '{name}' not found")
    if node.drives:
        raise CommandError(f"Node '{name}' is already in use")
    if not drive.removable:
        raise CommandError("Device is not removable")
    if drive.has_tray and not drive.tray_open:
        raise CommandError("Tray of the device is not open")
    if drive.node is not None:
        raise CommandError("There already is a medium in the device")
    graph.changed()
    graph.insert(drive, node)
    return EMPTY


@command("blockdev-change-medium")
def blockdev_change_medium(system: System, session: Client, arguments: Arguments) -> object:
    """The new medium is opened first: what is wrong with it leaves the old one where it is."""
    return at_rest(system, lambda: _change_medium(system, arguments), [{"filename": arguments["filename"]}])


def _change_medium(system: System, arguments: Arguments) -> object:
    graph = _graph(system)
    drive = find_drive(system, arguments)
    mode = arguments.get("read-only-mode") or "retain"
    read_only = mode == "read-only" or (mode == "retain" and _retained(system, drive))
    filename, kind = cast("str", arguments["filename"]), cast("str | None", arguments.get("format"))
    known = system.release.command_line.choices("block-drivers")
    if kind is not None and known and kind not in (*known, *_FILE_DRIVERS):
        raise Refusal("driver-unknown", driver=kind)
    options = of_file(filename, kind, read_only=read_only, json_parser=graph.json_parser)
    # This is what the drive says, whatever the name does.
    options["detect-zeroes"] = "off" if drive.node is None or drive.node.detect_zeroes == "off" else "on"
    node = Opener(graph).open(options)
    try:
        _, locked = _open_tray(system, arguments)
        if locked:
            raise CommandError(_locked(arguments))
        _remove_medium(system, drive, _named(arguments))
        graph.changed()
        graph.insert(drive, node)
    except Refusal:
        graph.release(node, always=True)
        raise
    system.inventory.move_tray(drive, opened=False)
    return EMPTY


def _retained(system: System, drive: Drive) -> bool:
    """Whether the medium in a drive is read-only, or the last one was; a device's own drive may begin so."""
    if drive.node is not None:
        return drive.node.read_only
    if drive.was_read_only is not None:
        return drive.was_read_only
    return not drive.name and not system.release.behaviour.empty_drives_writable


def _locked(arguments: Arguments) -> str:
    named = _named(arguments)
    return f"Device '{named}' is locked and force was not specified, wait for tray to open and try again"


@command("eject")
def eject(system: System, session: Client, arguments: Arguments) -> object:
    return at_rest(system, lambda: _eject(system, arguments))


def _eject(system: System, arguments: Arguments) -> object:
    drive, locked = _open_tray(system, arguments)
    if locked:
        raise CommandError(_locked(arguments))
    _remove_medium(system, drive, _named(arguments))
    return EMPTY
