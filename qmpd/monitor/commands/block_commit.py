"""`block-commit` of QAPI module `block-core`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.block.jobs import chain
from qmpd.block.jobs.active_commit import ActiveCommit
from qmpd.block.jobs.commit import Commit, CommitOptions
from qmpd.block.jobs.copying import MirrorOptions
from qmpd.common.refusals import Refusal
from qmpd.monitor.commands.block_stream import common, find_behind, is_called, root_node
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY

if TYPE_CHECKING:
    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.system import System


@command("block-commit")
def block_commit(system: System, session: Client, arguments: Arguments) -> object:
    graph = system.inventory.backends.block
    name = cast("str", arguments["device"])
    if graph.lookup(name) is None:
        raise Refusal("device-missing-class", device=name)
    node = root_node(graph, name)
    graph.check_free(node)
    top = _top(graph, node, arguments)
    base = _base(graph, top, arguments)
    for each in chain.chain(top):
        graph.check_free(each)
        if each is base:
            break
    if top is base:
        raise Refusal("commit-into-itself")
    told = common(graph, node, arguments)
    policy = cast("str", arguments.get("on-error", "report"))
    filter_name = cast("str", arguments.get("filter-node-name", ""))
    if chain.unfiltered(node) is chain.unfiltered(top):
        if "backing-file" in arguments:
            raise Refusal("commit-active-backing")
        ActiveCommit(
            system.jobs,
            MirrorOptions(
                **told, target=base, base=base, sync="top", on_source_error=policy, on_target_error=policy,
                filter_name=filter_name,
            ),
            top,
        ).start()  # fmt: skip
        return EMPTY
    overlay = next(each for each in chain.images(node) if top in chain.filters_behind(each))
    # What it says of its backing file changes in the end.
    graph.check_free(overlay)
    options = CommitOptions(
        **told, overlay=overlay, top=top, base=base, on_error=policy, filter_name=filter_name,
        backing_file=cast("str | None", arguments.get("backing-file")),
    )  # fmt: skip
    Commit(system.jobs, options, node).start()
    return EMPTY


def _top(graph: BlockGraph, node: BlockNode, arguments: Arguments) -> BlockNode:
    """The uppermost image that is committed.

    :raise Refusal: it is not in the chain.
    """
    named = _named(graph, node, arguments, "top")
    if named is not None:
        return named
    if "top" not in arguments or is_called(node, cast("str", arguments["top"])):
        return node
    return _called(node, cast("str", arguments["top"]), "commit-top-missing")


def _base(graph: BlockGraph, top: BlockNode, arguments: Arguments) -> BlockNode:
    """The image that is committed into.

    :raise Refusal: it is not in the chain.
    """
    named = _named(graph, top, arguments, "base")
    if named is not None:
        return named
    if "base" in arguments:
        return _called(top, cast("str", arguments["base"]), "not-in-chain")
    return chain.images(top)[-1]


def _named(graph: BlockGraph, above: BlockNode, arguments: Arguments, member: str) -> BlockNode | None:
    """The node of a chain that goes by its node name in `MEMBER-node`; None where nothing does."""
    by_node = f"{member}-node"
    if by_node not in arguments:
        return None
    if member in arguments:
        raise Refusal("exclusive", one=by_node, other=member)
    node = graph.find_node(cast("str", arguments[by_node]))
    if node not in chain.chain(above):
        raise Refusal("commit-not-in-chain", node=node.name)
    return node


def _called(above: BlockNode, name: str, code: str) -> BlockNode:
    """The image behind another one that goes by the name of its file; `code` refuses where there is none."""
    found = find_behind(above, name)
    if found is None:
        raise Refusal(code, name=name)
    return found
