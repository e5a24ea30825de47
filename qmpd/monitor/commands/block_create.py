"""`blockdev-create` and `x-blockdev-amend` of QAPI module `block-core`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.block.description import is_encrypted
from qmpd.block.jobs.create import Amend, Create
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY

if TYPE_CHECKING:
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

@command("blockdev-create")
def blockdev_create(system: System, session: Client, arguments: Arguments) -> object:
    options = cast("dict[str, Any]", arguments["options"])
    driver = options["driver"]
    if driver not in system.release.command_line.choices("block-drivers"):
        raise Refusal("create-driver-missing", driver=driver)
    if driver not in system.release.behaviour.creatable_drivers.split(","):
        raise Refusal("create-not-supported")
    Create(system.jobs, cast("str", arguments["job-id"]), options).start()
    return EMPTY


@command("x-blockdev-amend")
def x_blockdev_amend(system: System, session: Client, arguments: Arguments) -> object:
    node = system.inventory.backends.block.find_node(cast("str", arguments["node-name"]))
    options = cast("dict[str, Any]", arguments["options"])
    if options["driver"] != node.driver:
        raise Refusal("amend-driver")
    if is_encrypted(node):
        raise NotModelled("changing the keys of encrypted images")
    if node.driver != "qcow2":
        raise Refusal("amend-not-supported")
    Amend(system.jobs, cast("str", arguments["job-id"]), options).start()
    return EMPTY
