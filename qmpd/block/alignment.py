"""What nodes ask of requests (QAPI's BlockLimitsInfo)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.block.description import cluster_of, zeroed_unit_of
from qmpd.block.values import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.block.nodes import BlockNode

_SECTOR = 512
_LARGEST_INT = (1 << 31) - 1


def limits_of_format(node: BlockNode, cluster: int) -> dict[str, int]:
    """What a format asks by the size of its clusters, in bytes; raw passes on what those below it ask of discards."""
    if node.driver == "raw":
        below = node.children["file"]
        while below.driver == "raw":
            below = below.children["file"]
        return {"discard-alignment": cluster} if below.driver == "qcow2" else {}
    if node.driver != "qed":
        return {"write-zeroes-alignment": zeroed_unit_of(node) or cluster, "discard-alignment": cluster}
    # Its writes are of whole sectors, and it discards nothing.
    return {
        "write-zeroes-alignment": cluster, "request-alignment": _SECTOR,
        "max-write-zeroes": _LARGEST_INT // cluster * cluster,
    }  # fmt: skip


def strictest(limits: list[dict[str, int]], node: BlockNode) -> dict[str, int]:
    """What a filter asks of requests: what the nodes below it do, but for where they begin, and a log whole sectors."""
    found = {
        name: (min if name.startswith("max-") else max)(each[name] for each in limits if name in each)
        for name in {name: None for each in limits for name in each}
    }
    found["request-alignment"] = 1
    if "log" in node.children:
        found["request-alignment"] = number(node.options.get("log-sector-size", _SECTOR))
        # Those of what logs are only looked at for whether they go together.
        found["min-mem-alignment"] = limits[0]["min-mem-alignment"]
    if node.driver == "compress":
        found["request-alignment"] = cluster_of(node) or found["request-alignment"]
    return found


def past_the_cache(limits: Mapping[str, int], *, is_file: bool) -> dict[str, int]:
    """What is asked where the host's cache is passed by: whole sectors of its memory, and of the file itself."""
    return {**limits, "min-mem-alignment": _SECTOR, **({"request-alignment": _SECTOR} if is_file else {})}
