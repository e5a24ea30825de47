"""What is known of a release's machines, for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from qmpd.hardware.device_rules import DeviceRules
from qmpd.hardware.network_rules import NetworkRules

if TYPE_CHECKING:
    from qmpd.common.texts import Texts
    from qmpd.hardware.device_types import Declared
    from qmpd.qom.tree import Builder, Types


class InventoryRules(DeviceRules, NetworkRules, Protocol):
    """What releases differ in beside their texts (`qmpd.qapi.behaviour.Behaviour`)."""

    @property
    def unplug_refusal_event(self) -> str:
        """The event that tells that the guest will not let go of a device; empty where there is none."""

    @property
    def memory_files_of_pages(self) -> bool:
        """Whether memory in a file has whole pages alone."""

    @property
    def moved_disks_stay_shared(self) -> bool:
        """A machine that has its disks again lets others write to them, whether or not it runs."""


class Source(NamedTuple):
    """What is known of a release's machines, for all of them.

    `release` is its name, `captured` whether anything was captured of what its machines are made of.
    `network_kinds` are the network backends that its program has; none where that is not known.  `declared` tells the
    types of the properties that objects of a type have, by name; none where they are not known.
    """

    release: str
    captured: bool
    builder: Builder
    types: Types
    texts: Texts
    rules: InventoryRules
    network_kinds: tuple[str, ...]
    declared: Declared
