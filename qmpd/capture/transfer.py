"""Taking the names that introspection hides from one release to another that cannot be asked for them.

The numbers of types differ from one program to the next, but commands and members have the same names in both, so the
two declarations are walked side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.qapi.introspection import Alternate, Array, Builtin, Object
from qmpd.qapi.naming import ELEMENT_OF_BRANCH, Names

if TYPE_CHECKING:
    from qmpd.qapi.introspection import Introspection


def transfer(names: Names, known: Introspection, other: Introspection) -> Names:
    """The names of `known`, for the types of `other`, as far as both declare the same."""
    integers: dict[str, str] = {}
    alternates: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    common = [command for command in known.commands if command in set(other.commands)]
    waiting = [(known.command(name).arguments, other.command(name).arguments, "", "") for name in common]
    while waiting:
        old_name, new_name, old_key, new_key = waiting.pop()
        match known.type(old_name), other.type(new_name):
            case Builtin(name="int"), Builtin(name="int"):
                if old_key in names.integers:
                    integers[new_key] = names.integers[old_key]
            case Array() as old, Array() as new:
                waiting.append((old.element, new.element, old_key, new_key))
            case (Object(), Object()) | (Alternate(), Alternate()) if (old_name, new_name) in seen:
                continue
            case Alternate() as old, Alternate() as new:
                seen.add((old_name, new_name))
                if old_name in names.alternates:
                    alternates[new_name] = names.alternates[old_name]
                for old_branch, new_branch in zip(old.branches, new.branches, strict=False):
                    old_key = ELEMENT_OF_BRANCH.format(alternate=old_name, branch=old_branch)
                    new_key = ELEMENT_OF_BRANCH.format(alternate=new_name, branch=new_branch)
                    waiting.append((old_branch, new_branch, old_key, new_key))
            case Object() as old, Object() as new:
                seen.add((old_name, new_name))
                new_members = {member.name: member.type for member in new.members}
                for member in old.members:
                    if member.name in new_members:
                        old_key, new_key = f"{old_name}/{member.name}", f"{new_name}/{member.name}"
                        waiting.append((member.type, new_members[member.name], old_key, new_key))
                for case, branch in old.variants.items():
                    if case in new.variants:
                        waiting.append((branch, new.variants[case], "", ""))
    return Names(integers, alternates, names.unchecked & frozenset(other.commands))
