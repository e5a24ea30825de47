"""How fast nodes' memory is and what is cached of it (`set-numa-node`): as a real QEMU answers it."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.objects.test_differential import play
from tests.real_qemu import programs

if TYPE_CHECKING:
    from tests.objects.support import Request

RELEASES = ("5.2", "7.2", "10.0", "11.1")
LINE = (
    "-machine", "q35,hmat=on", "-m", "128", "-display", "none", "-nodefaults", "-preconfig", "-smp", "2,sockets=2",
    *(word for name in ("m0", "m1") for word in ("-object", f"memory-backend-ram,size=64M,id={name}")),
    "-numa", "node,nodeid=0,memdev=m0", "-numa", "node,nodeid=1,memdev=m1,initiator=0",
)  # fmt: skip


def node(kind: str, **values: Any) -> Request:
    return "set-numa-node", {"type": kind, **{name.replace("_", "-"): value for name, value in values.items()}}


def speed(**values: Any) -> Request:
    usual = {"initiator": 0, "target": 0, "hierarchy": "memory", "data_type": "access-latency"}
    return node("hmat-lb", **{**usual, **values})


def cache(**values: Any) -> Request:
    usual = {"node_id": 0, "size": 10240, "level": 1, "associativity": "direct", "policy": "write-back", "line": 8}
    return node("hmat-cache", **{**usual, **values})


def bandwidth(**values: Any) -> Request:
    return speed(data_type="access-bandwidth", **values)


EDGES = (
    speed(latency=1), node("cpu", node_id=0, socket_id=0), node("cpu", node_id=0, socket_id=1),
    speed(), *(speed(initiator=each) for each in (1, 2, 3)), *(speed(target=each, latency=1) for each in (2, 3)),
    speed(latency=5, bandwidth=5), speed(latency=65535), speed(latency=65534), speed(latency=655350, target=1),
    cache(), cache(level=0), cache(node_id=2),
    bandwidth(), bandwidth(bandwidth=1048575), bandwidth(bandwidth=1 << 20, latency=1),
    *(bandwidth(bandwidth=each << 20) for each in (65535, 65534, 65534)),
    *(cache(level=each) for each in (0, 4, 2, 1, 1, 2)),
    *(cache(level=level, size=1 << size) for level, size in ((3, 20), (2, 21), (3, 20), (3, 22))),
)  # fmt: skip


def some(random: Random) -> Request:
    """A speed at random."""
    kind = random.choice(("access-latency", "read-latency", "write-bandwidth", "read-bandwidth"))
    measure = kind.partition("-")[2]
    sizes = {"latency": (1, 10, 300, 70000, 655340, 65534, 65535), "bandwidth": (0, 1, 2, 3, 65534, 65535, 10**5)}
    value = random.choice(sizes[measure]) << (20 if measure == "bandwidth" else 0)
    level = random.choice(("memory", "first-level", "second-level"))
    return speed(hierarchy=level, data_type=kind, target=random.choice((0, 1)), **{measure: value})


@pytest.mark.parametrize("release", RELEASES)
def test_qmpd_says_what_qemu_says(release: str) -> None:
    if release not in programs():
        pytest.skip(f"qemu-system-x86_64 {release} is not installed")
    random = Random(5)
    for request, ours, theirs in play(release, LINE, [*EDGES, *(some(random) for _ in range(40))]):
        assert (request, ours) == (request, theirs)
