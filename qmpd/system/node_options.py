"""What a release declares of the options of nodes (QAPI's BlockdevOptions)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.block.values import TREE
from qmpd.machine.errors import MachineError
from qmpd.option_language.key_values import BOOL, NUMBER, STRING
from qmpd.qapi.errors import ArgumentError
from qmpd.qapi.introspection import Array, Builtin, Enumeration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.qapi.introspection import Object, Type
    from qmpd.qapi.release import Release

_COMMAND = "blockdev-add"


class NodeOptions:
    """The options that a release declares."""

    __slots__ = ("_members", "_release")

    def __init__(self, release: Release) -> None:
        self._release = release
        self._members: dict[str, dict[str, str]] = {}

    def members(self, driver: str) -> Mapping[str, str] | None:
        """What each option of a driver is; none where there is no such driver, None where that is not known."""
        found = self._members.get(driver)
        if found is None:
            types = self._release.introspection.branch_types(_COMMAND, driver)
            if types is None:
                return None
            found = self._members[driver] = {name: _kind(each) for name, each in types.items()}
        return found

    def visit(self, driver: str, name: str, tree: object) -> Any:
        """The value of an option that is a tree of text.

        :raise Refusal: it is none.
        """
        from qmpd.option_language import typed_values

        declared = self._type(driver, name)
        if not isinstance(declared, Array):
            if not isinstance(tree, dict):
                raise MachineError("Invalid parameter type for '<anonymous>', expected: object")
            return typed_values.check(self._release, declared.name, tree, is_text=True)
        if not isinstance(tree, list):
            raise MachineError("Invalid parameter type for '<anonymous>', expected: array")
        values = cast("Enumeration", self._release.introspection.type(declared.element)).values
        for each in tree:
            if each not in values:
                raise ArgumentError("enum-refusal", name="null", value=str(each))
        return tree

    def visit_all(self, driver: str, options: Mapping[str, object]) -> dict[str, Any]:
        """The same for all that are a driver's own, with its children.

        :raise Refusal: one is none, or is missing.
        """
        from qmpd.option_language import typed_values

        branch = self._branch(driver)
        return typed_values.check(self._release, branch.name, dict(options), is_text=True)

    def _branch(self, driver: str) -> Object:
        introspection = self._release.introspection
        return introspection.object(introspection.object(introspection.command(_COMMAND).arguments).variants[driver])

    def _type(self, driver: str, name: str) -> Type:
        return self._release.introspection.type(self._branch(driver).member(name).type)


def _kind(declared: Type) -> str:
    if isinstance(declared, Enumeration) or declared.name == "str":
        return STRING
    if isinstance(declared, Builtin):
        return {"bool": BOOL, "int": NUMBER}.get(declared.name, STRING)
    return TREE
