"""The capabilities and parameters of a machine's migrations: what was set, and what is refused of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from qmpd.common.refusals import Worded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

class Bounds(Protocol):
    """The bounds of a parameter (`qmpd.qapi.migration.Bounds`)."""

    @property
    def name(self) -> str:
        """The parameter."""

    @property
    def words(self) -> str:
        """What refuses a value beyond them."""

    @property
    def least(self) -> int:
        """The least value."""

    @property
    def most(self) -> int | None:
        """The greatest value; None where there is none."""

    @property
    def least_of(self) -> str | None:
        """Another parameter whose value it must reach."""

    @property
    def power_of_two(self) -> bool:
        """Whether it must be a power of two."""


class CapabilityRule(Protocol):
    """What goes with a capability (`qmpd.qapi.migration.CapabilityRule`)."""

    @property
    def of(self) -> str:
        """The capability."""

    @property
    def words(self) -> str:
        """What refuses it."""

    @property
    def requires(self) -> tuple[str, ...]:
        """The others that it takes."""

    @property
    def conflicts(self) -> tuple[str, ...]:
        """The others that it does not go with."""

    @property
    def plain(self) -> Mapping[str, object]:
        """Parameters that must have these values."""

    @property
    def is_absolute(self) -> bool:
        """Whether it cannot be had at all."""


class Rules(Protocol):
    """What a release refuses (`qmpd.qapi.migration.MigrationFace`)."""

    @property
    def parameters(self) -> Sequence[Bounds]:
        """The bounds of parameters, in the order in which they are looked at."""

    @property
    def capabilities(self) -> Sequence[CapabilityRule]:
        """What goes with capabilities, in that order."""

    @property
    def bits(self) -> Mapping[str, int]:
        """How many bits it keeps of some parameters."""

    @property
    def ignored(self) -> frozenset[str]:
        """Parameters that it takes and forgets."""


class MigrationSettings:
    """What was set for one machine's migrations; what was not has the release's own value."""

    __slots__ = ("capabilities", "parameters")

    def __init__(self) -> None:
        self.capabilities: dict[str, bool] = {}
        self.parameters: dict[str, Any] = {}

    def set_capabilities(self, wanted: Mapping[str, bool], rules: Rules, usual: Mapping[str, Any]) -> None:
        """Set capabilities, all of them or none; `usual` are the release's own parameters.

        :raise Worded: one does not go with what is set then.
        """
        new = {**self.capabilities, **wanted}
        values = {**usual, **self.parameters}
        for rule in rules.capabilities:
            if new.get(rule.of) and not _fits(rule, new, values):
                raise Worded(rule.words)
        self.capabilities = new

    def set_parameters(self, wanted: Mapping[str, Any], rules: Rules, usual: Mapping[str, Any]) -> None:
        """Set parameters, all of them or none; `usual` are the release's own.

        :raise Worded: a value is out of its bounds.
        """
        given = {name: _value(value, rules.bits.get(name, 64)) for name, value in wanted.items()}
        values = {**usual, **self.parameters, **given}
        for each in rules.parameters:
            if each.name in values and not _is_within(values[each.name], each, values):
                raise Worded(each.words)
        self.parameters |= {name: value for name, value in given.items() if name not in rules.ignored}


def _fits(rule: CapabilityRule, capabilities: Mapping[str, bool], parameters: Mapping[str, Any]) -> bool:
    if rule.is_absolute:
        return False
    return (
        all(capabilities.get(each) for each in rule.requires)
        and not any(capabilities.get(each) for each in rule.conflicts)
        and all(parameters.get(name, value) == value for name, value in rule.plain.items())
    )


def _value(value: Any, bits: int) -> Any:
    """A value as it is kept: null is no text, and numbers have so many bits and no sign."""
    if value is None:
        return ""
    return value % (1 << bits) if type(value) is int else value


def _is_within(value: int, bounds: Bounds, values: Mapping[str, Any]) -> bool:
    least = bounds.least if bounds.least_of is None else values[bounds.least_of]
    if value < least or (bounds.most is not None and value > bounds.most):
        return False
    return not bounds.power_of_two or value & (value - 1) == 0
