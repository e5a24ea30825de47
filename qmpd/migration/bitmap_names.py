"""What dirty bitmaps and their nodes are called while a machine moves: the parameter `block-bitmap-mapping`.

The mapping is a list of nodes, each with its `alias` and with `bitmaps`; a bitmap has its `name`, its `alias` and maybe
`transform`, what it is at the other side otherwise.  (QEMU's `construct_alias_map`; all releases say the same.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.identifiers import is_identifier
from qmpd.common.refusals import Worded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Mappings = Sequence[Mapping[str, Any]]

PARAMETER = "block-bitmap-mapping"
LONGEST = 255
"""Bytes of a name on the way."""
_LONGEST_NODE, _LONGEST_BITMAP = 31, 1023


def check(mappings: Mappings) -> None:
    """See whether each name stands for one thing, and can be one.

    :raise Worded: it does not.
    """
    # The names first, then the aliases: what is wrong with the former is told first.
    for wrong in (_wrong_names(mappings), _wrong_aliases(mappings)):
        for text in wrong:
            raise Worded(f"Invalid mapping given for block-bitmap-mapping: {text}")


def _wrong_names(mappings: Mappings) -> Iterator[str]:
    nodes: set[str] = set()
    for each in mappings:
        node, alias = each["node-name"], each["alias"]
        if not is_identifier(alias):
            yield f"The node alias '{alias}' is not well-formed"
        yield from _too_long("node alias", alias, LONGEST)
        yield from _too_long("node name", node, _LONGEST_NODE)
        if node in nodes:
            yield f"The node name '{node}' is mapped twice"
        nodes.add(node)
        names: set[str] = set()
        for bitmap in each["bitmaps"]:
            name = bitmap["name"]
            yield from _too_long("bitmap alias", bitmap["alias"], LONGEST)
            yield from _too_long("bitmap name", name, _LONGEST_BITMAP)
            if name in names:
                yield f"The bitmap '{node}'/'{name}' is mapped twice"
            names.add(name)


def _too_long(what: str, name: str, most: int) -> Iterator[str]:
    if _size(name) > most:
        yield f"The {what} '{name}' is longer than {most} bytes"


def _wrong_aliases(mappings: Mappings) -> Iterator[str]:
    nodes: set[str] = set()
    for each in mappings:
        alias = each["alias"]
        if alias in nodes:
            yield f"The node alias '{alias}' is used twice"
        nodes.add(alias)
        aliases: set[str] = set()
        for bitmap in each["bitmaps"]:
            if bitmap["alias"] in aliases:
                yield f"The bitmap alias '{alias}'/'{bitmap['alias']}' is used twice"
            aliases.add(bitmap["alias"])


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def is_meant(mappings: Mappings | None, node: str) -> bool:
    """Whether bitmaps of a node may go along; of one that is mapped it may be none all the same."""
    return mappings is None or any(each["node-name"] == node for each in mappings)


def check_node(mappings: Mappings | None, node: str, name: str) -> None:
    """See whether the node of a bitmap can be called by its own name on the way, where nothing else is said.

    :raise Worded: nobody has given it one.
    """
    if mappings is None and node.startswith("#"):
        raise Worded(f"Bitmap '{name}' in a node with auto-generated name '{node}' can't be migrated")


def check_outward(mappings: Mappings | None, node: str, name: str) -> None:
    """See whether a bitmap can be called by its own name on the way, where nothing else is said.

    :raise Worded: the name is too long.
    """
    if mappings is None and _size(name) > LONGEST:
        raise Worded(f"Cannot migrate bitmap '{name}' on node '{node}': Name is longer than {LONGEST} bytes")


def outward(mappings: Mappings | None, node: str, name: str) -> tuple[str, str, Mapping[str, Any]] | None:
    """What a node and its bitmap are called on the way, and what it becomes; None where it does not go along.

    Where nothing else is said their own names are those that were checked (`check_node`, `check_outward`).
    """
    if mappings is None:
        return node, name, {}
    for each in mappings:
        for bitmap in each["bitmaps"] if each["node-name"] == node else ():
            if bitmap["name"] == name:
                return each["alias"], bitmap["alias"], bitmap.get("transform", {})
    return None


def inward(mappings: Mappings | None, node: str, name: str) -> tuple[str, str, Mapping[str, Any]]:
    """The node and the bitmap that are called so on the way, and what else becomes of it.

    :raise Worded: nothing is.
    """
    if mappings is None:
        return node, name, {}
    meant = next((each for each in mappings if each["alias"] == node), None)
    if meant is None:
        raise Worded(f"Unknown node alias '{node}'")
    found = next((each for each in meant["bitmaps"] if each["alias"] == name), None)
    if found is None:
        raise Worded(f"Unknown bitmap alias '{name}' on node '{meant['node-name']}' (alias '{node}')")
    return meant["node-name"], found["name"], found.get("transform", {})
