"""The human monitor's `commit`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qmpd.block.committing import commit as write_behind
from qmpd.block.committing import has_behind
from qmpd.block.images.errors import text as error_text
from qmpd.block.jobs.chain import unfiltered
from qmpd.common.refusals import Refusal
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode
    from qmpd.system.system import System

_ALL = "all"


def commit(system: System, name: str) -> Deferred | str:
    """Write what a drive's image has into the one behind it; `all`: that of each drive that has one."""
    graph = system.inventory.backends.block
    nodes = _all_disks(graph)
    if name != _ALL:
        drive = graph.drive(name)
        if drive is None or drive.node is None:
            code = "commit-device" if drive is None else "drive-without-medium"
            return _said(system, Refusal(code, id=name))
        nodes = [drive.node]
    said: list[str] = []
    later = Deferred(lambda: "".join(said))

    def tell(text: str) -> None:
        said.append(text)
        later.ready()

    # What was asked for before is begun before this.
    work = partial(_next, system, name, nodes, tell)
    system.machine.later(lambda: system.disks.apart.do(work))
    return later


def _all_disks(graph: BlockGraph) -> list[BlockNode]:
    """The images that somebody has as a disk, be it a job or an export, and that have another one behind them."""
    users = {drive.number: drive for node in graph.nodes.values() for drive in node.drives if not drive.is_job}
    images = [unfiltered(users[number].node) for number in sorted(users)]  # type: ignore[arg-type]
    return [image for image in images if has_behind(image)]


def _next(system: System, name: str, nodes: list[BlockNode], tell: Callable[[str], None]) -> None:
    """Go on with the next one."""
    if not nodes:
        tell("")
        return

    def done(number: int) -> None:
        if number:
            tell(_said(system, Refusal("commit-failed", id=name, reason=error_text(number))))
        else:
            _next(system, name, nodes[1:], tell)

    write_behind(system.inventory.backends.block, system.disks.executor, nodes[0], done)


def _said(system: System, refusal: Refusal) -> str:
    mark = "Error: " if system.release.behaviour.drive_errors_marked else ""
    return f"{mark}{system.release.refusals.message(refusal)}\n"
