"""Options of nodes by names with dots, as `json:` names and drives tell them (QEMU's qdict_flatten, bdrv_open_inherit).

They are leaves, of whatever type they were given: which of them tell a child, which a part of the driver's own, and
which nobody knows is the driver's matter, so that they become a tree one node at a time (`structured`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from qmpd.block.drivers.table import DRIVERS
from qmpd.block.flat import Flat
from qmpd.block.values import TREE, is_flag, is_on, text_of
from qmpd.common.dictionary_order import in_order
from qmpd.common.integers import from_digits, is_digits
from qmpd.machine.errors import MachineError
from qmpd.option_language.key_values import BOOL, NUMBER, SIZE, STRING

if TYPE_CHECKING:
    from collections.abc import Mapping

    class Declared(Protocol):
        """What QAPI says of drivers' own options."""

        def members(self, driver: str) -> Mapping[str, str] | None:
            """What each option is; none where there is no such driver, None where that is not known."""

        def visit(self, driver: str, name: str, tree: object) -> Any:
            """The value of an option that is a tree of text.

            :raise Refusal: it is none.
            """

        def visit_all(self, driver: str, options: Mapping[str, object]) -> dict[str, Any]:
            """The same for all that are a driver's own, with its children.

            :raise Refusal: one is none, or is missing.
            """

_CACHE = ("direct", "no-flush")
_COMMON = {
    "driver": STRING, "node-name": STRING, "read-only": BOOL, "auto-read-only": BOOL, "force-share": BOOL,
    "detect-zeroes": STRING, "discard": STRING, "cache.direct": BOOL, "cache.no-flush": BOOL,
}  # fmt: skip
# The drivers' own trees, and whether QAPI declares what is in them.
_TREES = {
    "nbd": {"server": True},
    "qcow2": {"encrypt": False},
    "blkdebug": {"inject-error": False, "set-state": False, "take-child-perms": True, "unshare-child-perms": True},
}
# Drivers of which all own options are read by what QAPI declares, at once.
_VISITED = ("copy-before-write",)
# Options that are told with a dot and are none of a tree.
_DOTTED = {"qcow2": "overlap-check."}
# Those that QAPI does not have.
_UNDECLARED = {"nbd": dict.fromkeys(("path", "host", "port"), STRING)}
_VOTERS = "children"
# Nothing that is declared has members of members of so many.
_DEEPEST = 30


class Undeclared:
    """Nothing is known of any option."""

    def members(self, driver: str) -> None:
        """What each option is."""
        del driver

    def visit(self, driver: str, name: str, tree: object) -> Any:
        """The value of an option that is a tree of text."""
        del driver, name
        return tree

    def visit_all(self, driver: str, options: Mapping[str, object]) -> dict[str, Any]:
        """The same for all."""
        del driver
        return dict(options)


class Structured(NamedTuple):
    """The options of a node as a tree, in which its children are leaves still.

    `unknown` are the names of those that its driver does not know, `visited` the tree of those that it reads by what
    QAPI declares, once what is below it is open.
    """

    options: dict[str, Any]
    unknown: list[str]
    visited: dict[str, Any] | None


def structured(flat: Flat, driver: str, declared: Declared) -> Structured:
    """The options of a node with this driver.

    :raise Refusal: one has a value that it cannot have.
    """
    left = Flat(flat)
    found: dict[str, Any] = {}
    # A child that is told as something that is no name.
    odd = {role: left[role] for role in DRIVERS[driver].children if isinstance(left.get(role), (bool, int, float))}
    for role in dict.fromkeys((*DRIVERS[driver].children, "backing")):
        _take_child(left, role, found)
    if driver == "quorum":
        found[_VOTERS] = _voters(left)
    for name, is_declared in _TREES.get(driver, {}).items():
        if any(key.startswith(f"{name}.") for key in left):
            branch = left.take(name)
            found[name] = declared.visit(driver, name, _crumpled(branch)) if is_declared else _own(driver, name, branch)
    known = declared.members(driver)
    if known is None:
        known = dict.fromkeys(left, STRING)
    members = {**known, **_UNDECLARED.get(driver, {}), **_COMMON}
    visited = _visited(left, {**odd, **found}) if driver in _VISITED else None
    unknown = []
    for name in in_order(tuple(left)):
        kind = _kind_of(name, driver, members)
        if kind is None or (name == "bottom" and not isinstance(left[name], str)):
            unknown.append(name)
        elif (value := _leaf(left[name], kind)) is not None and (name != "filename" or isinstance(left[name], str)):
            # Those of every node are as in `blockdev-add`, the others as they were given.
            found[name] = is_on(value) if name in _COMMON and kind == BOOL and is_flag(value) else value
    cache = {name: found.pop(f"cache.{name}") for name in _CACHE if f"cache.{name}" in found}
    return Structured({**found, **({"cache": cache} if cache else {})}, unknown, visited)


def _visited(left: Flat, children: dict[str, Any]) -> dict[str, Any]:
    """The tree of what a driver reads at once; what is below it, and open by then, has a name."""
    told = {key: left.pop(key) for key in list(left) if key not in _COMMON and key != "backing"}
    for role, child in children.items():
        if role == "file":
            told[role] = ""
        elif isinstance(child, Flat):
            told |= {} if child.reference is None else {role: child.reference}
            told |= {f"{role}.{key}": value for key, value in child.items()}
        else:
            told[role] = child
    tree = _crumpled(Flat(told))
    return tree if isinstance(tree, dict) else {}


def _take_child(left: Flat, role: str, found: dict[str, Any]) -> None:
    """Take what tells a child; nothing, behind a node, tells that too."""
    is_told, told = role in left, left.get(role)
    child = left.take(role)
    if child is not None:
        found[role] = child
    elif role == "backing" and told is not None:
        left[role] = told  # it is no name, and so no child
    elif role == "backing" and is_told:
        found[role] = None


def _voters(left: Flat) -> list[Any]:
    """The voters of a quorum.

    :raise MachineError: they are not numbered.
    """
    prefix = f"{_VOTERS}."
    names = {key.removeprefix(prefix).partition(".")[0] for key in left if key.startswith(prefix)}
    places = sorted(names, key=lambda name: from_digits(name) if is_digits(name) else -1)
    if places != [str(number) for number in range(len(places))]:
        raise MachineError("Option children is not a valid array")
    voters = []
    for place in places:
        told = left.get(prefix + place)
        voter = left.take(prefix + place)
        if isinstance(voter, Flat) and told is not None:
            raise MachineError("Option children is not a valid array")
        voters.append(voter)
    return voters


def _kind_of(name: str, driver: str, members: Mapping[str, str]) -> str | None:
    dotted = _DOTTED.get(driver)
    if dotted is not None and name.startswith(dotted):
        from qmpd.block.images.qcow2.options import KINDS

        return KINDS.get(name)
    kind = members.get(name)
    # A tree that is told by one value alone is known to nobody, except where that is another way to tell it.
    return kind if kind != TREE else STRING if f"{name}." == dotted else None


def _leaf(value: Any, kind: str) -> Any:
    """An option as a driver reads it; None where it reads none (QEMU's qemu_opts_absorb_qdict)."""
    if value is None or isinstance(value, (dict, list)):
        return None
    if kind == BOOL:
        return value if isinstance(value, bool) else text_of(value)
    if kind in (NUMBER, SIZE):
        return value if isinstance(value, (int, str)) and not isinstance(value, bool) else text_of(value)
    return text_of(value)


def _crumpled(flat: Flat, depth: int = 0) -> object:
    """The tree of leaves, all of which are text (QEMU's qdict_crumple).

    :raise MachineError: they make none.
    """
    if depth > _DEEPEST:
        return dict(flat)
    branches: dict[str, Any] = {}
    for name in in_order(tuple(flat)):
        first, rest = _split(name)
        if rest is None:
            if first in branches:
                raise MachineError("Cannot mix scalar and non-scalar keys")
            value = flat[name]
            branches[first] = value if value is None else {} if isinstance(value, (dict, list)) else text_of(value)
        elif isinstance(branches.setdefault(first, Flat({})), Flat):
            branches[first][rest] = flat[name]
        else:
            raise MachineError("Cannot mix scalar and non-scalar keys")
    found = {name: _crumpled(each, depth + 1) if isinstance(each, Flat) else each for name, each in branches.items()}
    numbered = _listed(found)
    # Within a tree a list has its places for names, as it has in those of the command line.
    return found if depth else numbered


def _split(name: str) -> tuple[str, str | None]:
    """A name at its first dot; two dots are one that splits nothing."""
    at = name.find(".")
    while at >= 0 and name[at + 1 : at + 2] == ".":
        at = name.find(".", at + 2)
    first, rest = (name, None) if at < 0 else (name[:at], name[at + 1 :])
    return first.replace("..", "."), rest


def _listed(branches: dict[str, Any]) -> object:
    """A list where all names are numbers.

    :raise MachineError: only some are, or one is missing.
    """
    numbers = [from_digits(name) for name in branches if is_digits(name)]
    if not numbers:
        return branches
    if len(numbers) < len(branches):
        raise MachineError("Cannot mix list and non-list keys")
    if len(numbers) != max(numbers) + 1:
        raise MachineError(
            f"List indices are not contiguous, saw {len(numbers)} elements but {max(numbers)} largest index"
        )
    for number in range(len(numbers)):
        if str(number) not in branches:
            raise MachineError(f"Missing list index {number}")
    return [branches[str(number)] for number in range(len(numbers))]


def _own(driver: str, name: str, branch: Flat) -> object:
    """A tree that a driver reads by itself.

    :raise Refusal: it cannot.
    """
    if driver == "blkdebug":
        from qmpd.block.drivers.blkdebug_rules import rules

        return rules(name, branch)
    texts = {key: text_of(value) for key, value in branch.items() if not isinstance(value, (dict, list, type(None)))}
    if not isinstance(branch.get("format"), str):
        texts.pop("format", None)
    return texts
