"""Options of nodes by names with dots (QEMU's qdict_flatten)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.dictionary_order import in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Flat(dict[str, Any]):
    """The leaves of a node and of all below it; `reference` is the node that a child's own name tells beside them."""

    __slots__ = ("reference",)

    def __init__(self, leaves: Mapping[str, Any], reference: str | None = None) -> None:
        super().__init__(leaves)
        self.reference = reference

    def take(self, name: str) -> Any:
        """Take what tells a child, or a tree: its leaves, the text that is in their place, or None for neither."""
        told = self.pop(name, None)
        prefix = f"{name}."
        leaves = {key.removeprefix(prefix): self.pop(key) for key in list(self) if key.startswith(prefix)}
        if not leaves:
            return told if not isinstance(told, (bool, int, float, list, dict)) else None
        return Flat(leaves, told if isinstance(told, str) else None)


def flatten(tree: Mapping[str, Any]) -> Flat:
    """The leaves of a tree, of which empty lists and objects are some; of two with one name the later one counts."""
    found = Flat({name: value for name, value in tree.items() if not _is_branch(value)})
    waiting = _members("", {name: value for name, value in tree.items() if _is_branch(value)})
    # Not by recursion: a client may have nested them as deep as JSON goes.
    stack: list[Iterator[tuple[str, Any]]] = [waiting]
    while stack:
        for name, value in stack[-1]:
            if _is_branch(value):
                stack.append(_members(f"{name}.", value))
                break
            found[name] = value
        else:
            stack.pop()
    return found


def _is_branch(value: object) -> bool:
    return isinstance(value, (dict, list)) and bool(value)


def _members(prefix: str, branch: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(branch, dict):
        return iter([(prefix + name, branch[name]) for name in in_order(tuple(branch))])
    return iter([(f"{prefix}{number}", each) for number, each in enumerate(branch)])
