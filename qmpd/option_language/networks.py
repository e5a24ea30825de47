"""Reading the options of a network backend: the list that `-netdev`, `-nic` and the human monitor take.

What comes out is what `netdev_add` takes.  (QEMU's net/net.c, `net_client_init`.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.integers import is_digits
from qmpd.common.refusals import Refusal
from qmpd.option_language import typed_values

if TYPE_CHECKING:
    from qmpd.qapi.release import Release

    Values = dict[str, object]

_DEFAULT_PREFIX = "64"


def read_netdev(release: Release, pairs: list[tuple[str, str]], identifier: str | None) -> Values:
    """The backend that a list of keys and values describes.

    :raise Refusal: it describes none.
    """
    declared = typed_values.argument_type(release, "netdev_add")
    if identifier is not None:
        pairs = [*pairs, ("id", identifier)]
    return typed_values.from_pairs(release, declared, _with_prefix(pairs))


def _with_prefix(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs with `ipv6-net=PREFIX/LENGTH` as the two that it is short for."""
    network = dict(pairs).get("ipv6-net")
    if network is None:
        return pairs
    prefix, slash, length = network.partition("/")
    if slash and not is_digits(length):
        raise Refusal("ipv6-net-length")
    left = [pair for pair in pairs if pair[0] != "ipv6-net"]
    return [*left, ("ipv6-prefix", prefix), ("ipv6-prefixlen", length or _DEFAULT_PREFIX)]
