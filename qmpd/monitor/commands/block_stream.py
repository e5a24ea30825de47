"""`block-stream` of QAPI module `block-core`."""

from __future__ import annotations

from itertools import pairwise
from posixpath import normpath
from typing import TYPE_CHECKING, Any, cast

from qmpd.block.description import filename_of
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.files import beside
from qmpd.block.jobs import chain
from qmpd.block.jobs.stream import Stream, StreamOptions
from qmpd.common.refusals import Refusal
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY

if TYPE_CHECKING:
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


def job_name(graph: BlockGraph, node: BlockNode, arguments: Arguments) -> str:
    """The name of a block job: of its own, or of the device that its node is in."""
    given = arguments.get("job-id")
    if given is not None:
        return str(given)
    return next((drive.name for drive in node.drives if drive.name), "")


def common(graph: BlockGraph, node: BlockNode, arguments: Arguments) -> dict[str, Any]:
    """What every block job can be told (`BlockOptions`)."""
    return {
        "identifier": job_name(graph, node, arguments), "speed": arguments.get("speed", 0),
        "auto_finalize": arguments.get("auto-finalize", True), "auto_dismiss": arguments.get("auto-dismiss", True),
    }  # fmt: skip


def root_node(graph: BlockGraph, name: str) -> BlockNode:
    """The node of this name, or what is in the drive of this name, which no other node has below it.

    :raise Refusal: there is none, or another node has.
    """
    node = graph.find(name)
    if node.parents or graph.is_busy(node):
        raise Refusal("node-no-root")
    return node


@command("block-stream")
def block_stream(system: System, session: Client, arguments: Arguments) -> object:
    graph = system.inventory.backends.block
    if not system.release.behaviour.stream_checks_options_first:
        graph.find(cast("str", arguments["device"]))
    for one, other in (("base", "base-node"), ("base", "bottom"), ("bottom", "base-node")):
        if one in arguments and other in arguments:
            raise Refusal("both-given", one=one, other=other)
    node = graph.find(cast("str", arguments["device"]))
    bottom, base = _bottom(graph, node, arguments)
    for each in chain.chain(node, base):
        graph.check_free(each)
    chain.check_freezable(node, base)
    if bottom is None and "backing-file" in arguments:
        raise Refusal("stream-whole-chain")
    options = StreamOptions(
        **common(graph, node, arguments), bottom=bottom, backing_file=cast("str | None", arguments.get("backing-file")),
        on_error=cast("str", arguments.get("on-error", "report")),
        filter_name=cast("str", arguments.get("filter-node-name", "")),
    )  # fmt: skip
    Stream(system.jobs, options, node).start()
    return EMPTY


def _bottom(graph: BlockGraph, node: BlockNode, arguments: Arguments) -> tuple[BlockNode | None, BlockNode | None]:
    """The last image that is copied, and the first one that is not; None where all are.

    :raise Refusal: it is not in the chain.
    """
    if "base" in arguments:
        name = cast("str", arguments["base"])
        base = find_behind(node, name)
        if base is None:
            raise Refusal("not-in-chain", name=name)
    elif "base-node" in arguments:
        base = graph.find_node(cast("str", arguments["base-node"]))
        if base is node or base not in chain.chain(node):
            raise Refusal("not-a-backing-image", node=arguments["base-node"], top=arguments["device"])
    elif "bottom" in arguments:
        bottom = graph.find_node(cast("str", arguments["bottom"]))
        if DRIVERS[bottom.driver].is_filter:
            raise Refusal("bottom-is-filter", node=bottom.name)
        if bottom not in chain.chain(node):
            raise Refusal("bottom-not-in-chain", node=arguments["bottom"], top=arguments["device"])
        return bottom, chain.behind(bottom)
    else:
        return None, None
    overlay = next(each for each in chain.images(node) if base in chain.filters_behind(each))
    return overlay, base


def find_behind(node: BlockNode, filename: str) -> BlockNode | None:
    """The image behind another one that goes by this name of a file, or that the image above it calls so.

    A relative name is one from the folder of the image above.
    """
    above = chain.images(node)
    for overlay, image in pairwise(above if above and above[0] is node else [node, *above]):
        recorded = overlay.recorded_backing if overlay.backing_as_recorded else ""
        if is_called(image, filename) or (recorded and filename == recorded):
            return image
        place = overlay.children["file"].exact_name if "file" in overlay.children else ""
        means = recorded or image.exact_name
        if place and means and normpath(beside(place, filename)) == normpath(beside(place, means)):
            return image
    return None


def is_called(node: BlockNode, filename: str) -> bool:
    """Whether an image goes by this name of a file."""
    return filename in (node.exact_name, node.image.get("filename", ""), filename_of(node))
