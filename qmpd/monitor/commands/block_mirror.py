"""`blockdev-mirror` and `drive-mirror` of QAPI module `block-core`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.block.activation import share_activity
from qmpd.block.blockers import check_unblocked
from qmpd.block.content import text_of
from qmpd.block.creating import NewImage
from qmpd.block.description import filename_of
from qmpd.block.filenames import of_file
from qmpd.block.images.errors import ImageError
from qmpd.block.jobs import chain
from qmpd.block.jobs.copying import MirrorOptions
from qmpd.block.jobs.mirror import Mirror, check_granularity
from qmpd.block.opening import Opener
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError
from qmpd.monitor.commands.block_stream import common, root_node
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.executor import Outcome
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System

_SYNCS = ("full", "top", "none")


@command("blockdev-mirror")
def blockdev_mirror(system: System, session: Client, arguments: Arguments) -> object:
    graph = system.inventory.backends.block
    node = root_node(graph, cast("str", arguments["device"]))
    target = graph.find(cast("str", arguments["target"]))
    _start(system, node, target, arguments, zero_target=arguments["sync"] == "full")
    return EMPTY


def _start(
    system: System, node: BlockNode, target: BlockNode, arguments: Arguments, *, zero_target: bool, **more: Any
) -> None:
    """Start a mirror with what both commands can be told."""
    graph = system.inventory.backends.block
    graph.changed_as("mirror-start")
    granularity = cast("int", arguments.get("granularity", 0))
    check_granularity(granularity)
    graph.check_free(node)
    graph.check_free(target)
    check_unblocked(target)
    sync = cast("str", arguments["sync"])
    images = chain.images(node)
    base = images[1] if len(images) > 1 else None
    if sync == "top" and base is None:
        sync = "full"
    replaces = cast("str | None", arguments.get("replaces"))
    if replaces is not None:
        _check_replaced(graph, node, replaces)
    elif chain.unfiltered(node) is not node:
        replaces = chain.unfiltered(node).name
    if sync not in _SYNCS:
        raise Refusal("mirror-sync", mode=sync)
    options = MirrorOptions(
        **common(graph, node, arguments), target=target, sync=sync, base=base if sync == "top" else None,
        granularity=granularity, buffer=cast("int", arguments.get("buf-size", 0)),
        on_source_error=cast("str", arguments.get("on-source-error", "report")),
        on_target_error=cast("str", arguments.get("on-target-error", "report")),
        unmap=cast("bool", arguments.get("unmap", True)),
        copy_mode=cast("str", arguments.get("copy-mode", "background")),
        filter_name=cast("str", arguments.get("filter-node-name", "")), replaces=replaces, zero_target=zero_target,
        looks_for_zeros=system.release.behaviour.mirror_looks_for_zeros,
        **more,
    )  # fmt: skip
    Mirror(system.jobs, options, node).start()


def _check_replaced(graph: BlockGraph, node: BlockNode, name: str) -> None:
    """Refuse to replace a node that is not part of the source, or is of another size."""
    found = graph.nodes.get(name)
    if found is None:
        raise Refusal("node-name-missing", name=name)
    graph.check_free(found)
    if found is not node and found not in _below(node):
        raise Refusal("mirror-replaced-elsewhere", replaced=name, node=node.name)
    if found.size != node.size:
        raise Refusal("mirror-replaced-size")


def _below(node: BlockNode) -> list[BlockNode]:
    return [each for child in node.children.values() for each in (child, *_below(child))]


@command("drive-mirror")
def drive_mirror(system: System, session: Client, arguments: Arguments) -> object:
    """A new image is made by the disks' threads, so the reply comes later then."""
    graph = system.inventory.backends.block
    node = root_node(graph, cast("str", arguments["device"]))
    graph.check_free(node)
    filename = cast("str", arguments["target"])
    exists = arguments.get("mode", "absolute-paths") == "existing"
    kind = cast("str | None", arguments.get("format"))
    if kind is None and not exists:
        kind = node.driver
    behind = chain.images(node)[1:2]
    sync = arguments["sync"]
    if sync == "top" and not behind:
        sync = "full"
    source = node if sync == "none" else (behind[0] if behind else None)
    if "replaces" in arguments and "node-name" not in arguments:
        raise Refusal("mirror-replaced-unnamed")
    image = None
    if not exists:
        assert kind is not None
        has_backing = sync != "full" and source is not None
        image = NewImage(
            filename, kind, node.size, system.release.command_line.choices("block-drivers"),
            filename_of(source) if has_backing and source is not None else None,
            source.driver if has_backing and source is not None else None,
        )  # fmt: skip

    def go_on() -> object:
        drivers = system.release.command_line.choices("block-drivers")
        if kind is not None and kind != "raw" and kind not in drivers:
            graph.changed()
            raise Refusal("driver-unknown", driver=kind)
        options: dict[str, Any] = of_file(filename, kind, read_only=False, json_parser=graph.json_parser)
        options |= {"cache": {"direct": node.direct, "no-flush": node.no_flush}, "discard": node.discard}
        if "node-name" in arguments:
            options["node-name"] = arguments["node-name"]
        target = Opener(graph).open({**options, "backing": None})
        share_activity(target, node)
        try:
            _start(
                system, node, target, {**arguments, "sync": sync}, zero_target=sync == "full" and exists,
                backing="open" if exists else "source",
            )
        finally:
            graph.release(target)
        return EMPTY

    return go_on() if image is None else after_making(system, image, go_on)


def after_making(system: System, image: NewImage, go_on: Callable[[], object]) -> object:
    """What `go_on` gives, once a new image is made."""
    outcomes: list[Outcome] = []
    system.print(image.announcement())

    def finish() -> object:
        error = outcomes[0].error
        if error is not None:
            message = error.message if isinstance(error, ImageError) else text_of(error)
            raise MachineError(
                message if isinstance(error, ImageError) else f"Could not create '{image.filename}': {message}"
            )
        image.note(system.inventory.backends.block)
        return go_on()

    later = Deferred(finish)

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        later.ready()

    system.disks.executor.do(image.make, done)
    return finish() if outcomes else later
