"""The texts with which releases refuse what concerns objects, devices and backends.

A release's own are captured (`qmpd.capture.hardware.texts`); these stand where one is missing.  Their variable parts
are for `str.format`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.common.refusals import Refusal

DEFAULTS: dict[str, str] = {
    "property-not-writable": "Property '{type}.{name}' is not writable",
    "enum-refusal": "Parameter '{name}' does not accept value '{value}'",
    "unsigned-option": "Parameter '{name}' expects integer",
    "signed-option": "Parameter '{name}' expects integer",
    "device-abstract": "Parameter 'driver' expects a non-abstract device type",
    "device-not-pluggable": "Parameter 'driver' expects a pluggable device type",
    "device-id-duplicate": "Duplicate device ID '{id}'",
    "bus-full": "No '{bus}' bus found for device '{driver}'",
    "slot-in-use": "PCI: slot {slot} function {function} not available for {driver}, in use by {there},id={id}",
    "drive-missing": "Device '{id}' not found",
    "device-is-none": "{id} is not a device",
    "chardev-duplicate": "Chardev with id '{id}' already exists",
    "chardev-in-use": "Property '{owner}' can't take value '{id}': chardev '{id}' is already in use",
    "node-duplicate": "Duplicate nodes with node-name='{node}'",
    "node-name": "Invalid node-name: '{node}'",
    "node-missing": "Failed to find node with node-name='{node}'",
    "device-or-node-missing": "Cannot find device='{device}' nor node-name='{node}'",
    "node-conflict": (
        "Permission conflict on node '{node}': permissions 'write' are both required by block device '{user}' "
        "(uses node '{node}' as 'root' child) and unshared by block device '{other}' "
        "(uses node '{node}' as 'root' child)."
    ),
    "node-conflict-shared": (
        "Permission conflict on node '{node}': permissions 'write' are both required by block device '{user}' "
        "(uses node '{node}' as 'root' child) and unshared by block device '{other}' "
        "(uses node '{node}' as 'root' child)."
    ),
    "raw-offset": "Offset ({offset}) cannot be greater than size of the containing file ({size})",
    "netdev-duplicate": "Duplicate ID '{id}'",
    "netdev-type": "network backend '{type}' is not compiled into this binary",
    "balloon-size": "Parameter 'value' expects a size",
    "object-duplicate": "attempt to add duplicate property '{id}' to object (type 'container')",
    "object-type": "invalid object type: {type}",
    "object-missing": "object '{id}' not found",
    "object-in-use": "object '{id}' is in use, can not be deleted",
    "can-bus-stays": "object '{id}' is in use, can not be deleted",
}


class Texts:
    """The texts of one release."""

    __slots__ = ("_own", "message")

    def __init__(self, own: Mapping[str, str], message: Callable[[Refusal], str]) -> None:
        """`message` gives the release's words for a refusal."""
        self._own = own
        self.message = message

    def __call__(self, which: str, **parts: object) -> str:
        """The text of this name, with its parts."""
        return self._own.get(which, DEFAULTS[which]).format(**parts)
