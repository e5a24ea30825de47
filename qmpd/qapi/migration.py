"""What a release refuses of the parameters and capabilities of migrations: the bounds, and what goes with what.

A release's folder has it as `migration.json`, in the order in which the release looks at them.
(QEMU's migration/options.c; recordings `migration`.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "migration.json"


class Bounds(NamedTuple):
    """The bounds of a parameter: `least_of` is another parameter that it must reach; `words` say so."""

    name: str
    words: str
    least: int = 0
    most: int | None = None
    least_of: str | None = None
    power_of_two: bool = False


class CapabilityRule(NamedTuple):
    """A rule of a capability that is set: what it requires, what it conflicts with, the parameters that must be plain.

    Where it has none of these, it cannot be had at all.
    """

    of: str
    words: str
    requires: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    plain: Mapping[str, object] = {}

    @property
    def is_absolute(self) -> bool:
        """Whether the capability cannot be had at all."""
        return not self.requires and not self.conflicts


class MigrationFace(NamedTuple):
    """The rules of one release, in its order.

    `bits` are those that it keeps of some parameters, `ignored` the parameters that it takes and forgets.
    """

    parameters: tuple[Bounds, ...] = ()
    capabilities: tuple[CapabilityRule, ...] = ()
    bits: Mapping[str, int] = {}
    ignored: frozenset[str] = frozenset()

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> MigrationFace:
        """Read a release's file.

        :raise KeyError, TypeError: it is none.
        """
        return cls(
            tuple(Bounds(**_names(each)) for each in content["parameters"]),
            tuple(CapabilityRule(**_names(each)) for each in content["capabilities"]),
            content["bits"],
            frozenset(content["ignored"]),
        )


def _names(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.replace("-", "_"): tuple(value) if isinstance(value, list) else value for name, value in entry.items()
    }
