"""What introspection hides: the width of integers, the names of alternates, unchecked commands.

Introspection calls every integer type `int` and has numbers for alternates, yet errors name them (`expects uint32_t`,
`expected: StrOrNull`), and a few commands (QAPI's `'gen': false`) do not check their arguments at all.
`qmpd.capture.naming` finds all that out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.integers import is_digits

if TYPE_CHECKING:
    from collections.abc import Mapping

# The key of an integer that is a branch of an alternate; other integers are keyed `TYPE/MEMBER`.
ELEMENT_OF_BRANCH = "{alternate}/<{branch}>"


class Names:
    """What a release's introspection hides.

    integers: `TYPE/MEMBER` to the integer type (a key of `INTEGER_RANGES`) of that member, or of the elements where
    the member is an array; TYPE is the name of an object type in the introspection, so a number. What is not in it
    is taken for `int64`, the most common one.
    alternates: an alternate's name in the introspection to its name in errors.
    unchecked: the commands that take any arguments and look at them themselves.
    """

    __slots__ = ("alternates", "integers", "unchecked")

    def __init__(
        self,
        integers: Mapping[str, str] | None = None,
        alternates: Mapping[str, str] | None = None,
        unchecked: frozenset[str] = frozenset(),
    ) -> None:
        self.integers: Mapping[str, str] = integers or {}
        self.alternates: Mapping[str, str] = alternates or {}
        self.unchecked = unchecked

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Names:
        """Read what `to_json` wrote; members that are missing count as empty."""
        return cls(value.get("integers"), value.get("alternates"), frozenset(value.get("unchecked", ())))

    def to_json(self) -> dict[str, object]:
        """As JSON values, the same each time."""
        return {
            "alternates": dict(sorted(self.alternates.items(), key=_by_number)),
            "integers": dict(sorted(self.integers.items(), key=_by_number)),
            "unchecked": sorted(self.unchecked),
        }


def _by_number(item: tuple[str, str]) -> tuple[int, str]:
    type_name, _, member = item[0].partition("/")
    return int(type_name) if is_digits(type_name) else -1, member
