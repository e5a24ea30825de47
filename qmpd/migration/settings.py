"""The capabilities and parameters of a machine's migrations: what was set, and what is refused of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import Worded
from qmpd.migration import bitmap_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.qapi.migration import Bounds, CapabilityRule, MigrationFace

class MigrationSettings:
    """What was set for one machine's migrations; what was not has the release's own value."""

    __slots__ = ("capabilities", "parameters")

    def __init__(self) -> None:
        self.capabilities: dict[str, bool] = {}
        self.parameters: dict[str, Any] = {}

    def set_capabilities(self, wanted: Mapping[str, bool], rules: MigrationFace, usual: Mapping[str, Any]) -> None:
        """Set capabilities, all of them or none; `usual` are the release's own parameters.

        :raise Worded: one does not go with what is set then.
        """
        new = {**self.capabilities, **wanted}
        values = {**usual, **self.parameters}
        for rule in rules.capabilities:
            if new.get(rule.of) and not _fits(rule, new, values):
                raise Worded(rule.words)
        self.capabilities = new

    def set_parameters(self, wanted: Mapping[str, Any], rules: MigrationFace, usual: Mapping[str, Any]) -> None:
        """Set parameters, all of them or none; `usual` are the release's own.

        :raise Worded: a value is out of its bounds.
        """
        given = {name: _value(value, rules.bits.get(name, 64)) for name, value in wanted.items()}
        values = {**usual, **self.parameters, **given}
        for each in rules.parameters:
            if each.name in values and not _is_within(values[each.name], each, values):
                raise Worded(each.words)
        bitmap_names.check(given.get(bitmap_names.PARAMETER, ()))
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
