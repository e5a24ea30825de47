"""The types of devices: which there are, and which can be added when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.common.refusals import NotModelled, Refusal
from qmpd.hardware import limits, unmodelled
from qmpd.hardware.unmodelled import ASIDE
from qmpd.machine.errors import MachineError
from qmpd.qom.naming import ID

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.common.computer import Computer
    from qmpd.common.texts import Texts
    from qmpd.hardware.device_rules import DeviceRules
    from qmpd.hardware.home import Home
    from qmpd.qom.reader import Reader
    from qmpd.qom.tree import Builder, Types

    Options = Mapping[str, object]
    Declared = Callable[[str], Mapping[str, str]]

CPU = "-x86_64-cpu"
"""What the type of a CPU is called behind its model."""

# When a type refuses to be added to a machine that exists (`hotplug` of what was captured).
_NEVER_BY_TYPE, _NEVER_BY_DEVICE = "type", "device"
_SYSTEM = "sys-bus-device"
# Refusals that have advice, which is not captured.
_ADVISED = {
    "vfio-pci": "vfio-host-missing",
    "vfio-pci-nohotplug": "vfio-host-missing",
    "virtio-iommu-pci": "iommu-bindings-missing",
    "virtio-iommu-pci-non-transitional": "iommu-bindings-missing",
}
_REMAPPING = ("intel-iommu", "amd-iommu")


class DeviceTypes:
    """The types of devices that there are for one machine, its `home`."""

    __slots__ = ("_builder", "_computer", "_declared", "_home", "_rules", "_texts", "_types")

    def __init__(
        self,
        builder: Builder,
        types: Types,
        texts: Texts,
        rules: DeviceRules,
        home: Home,
        declared: Declared,
        computer: Computer,
    ) -> None:
        """`declared` tells the types of the properties that devices of a type have, by name."""
        self._declared = declared
        self._computer = computer
        self._builder = builder
        self._types = types
        self._texts = texts
        self._rules = rules
        self._home = home

    def find(self, driver: str, *, cold: bool) -> tuple[str, dict[str, Any]]:
        """The type of device of this name, and what was captured of it; `cold`: before the machine exists.

        :raise MachineError: there is none, or it cannot be added like that.
        :raise NotModelled: it could be, and was not captured.
        """
        find = self._builder.captured
        alias = find("alias", driver)
        real = driver if alias is None else alias["type"]
        captured = find("device", real)
        if captured is None:
            types = self._types.is_a(driver)
            if "device" not in types:
                raise MachineError(f"'{driver}' is not a valid device model name")
            captured = self._processor(driver) if "cpu" in types else None
            if captured is None:
                raise MachineError(self._texts("device-abstract"))
        if not captured.get("user", True):
            raise MachineError(self._texts("device-not-pluggable"))
        if not cold and captured.get("hotplug") == _NEVER_BY_TYPE:
            raise MachineError(captured["hot"])
        board = self._home.settings.board
        if captured.get("system"):
            if real in _REMAPPING and board.takes_remapping:
                raise NotModelled(f"adding a device of type {driver}")
            raise MachineError(captured["refusal"])
        if not board.takes_system_devices and self._rules.keyval_options and _SYSTEM in self._types.is_a(real):
            raise MachineError("Parameter 'driver' expects a dynamic sysbus device type for the machine")
        return real, captured

    def _processor(self, driver: str) -> dict[str, Any] | None:
        """What a CPU of this type is made of, as the machine has captured it; None for no CPU model."""
        # A model that does not start everywhere was not captured; its name is known all the same.
        model = self._builder.captured("cpu", driver.removesuffix(CPU)) or {"values": {}}
        if not driver.endswith(CPU) or self._types.is_abstract(driver):
            return None
        machine = self._builder.captured("machine", self._home.settings.board.family) or {}
        if "cpu" not in machine:
            return {}
        return {"tree": machine["cpu"][-1], "values": model["values"]}

    def check_hotplug(self, captured: dict[str, Any]) -> None:
        """Refuse to add a type to a machine that exists, where the type itself does, once a bus has been found.

        :raise MachineError: it does.
        """
        if captured.get("hotplug") == _NEVER_BY_DEVICE:
            raise MachineError(captured["hot"])

    def refuse(
        self,
        driver: str,
        captured: dict[str, Any],
        options: Options,
        identifier: str | None,
        reader: Reader,
        *,
        text: bool,
    ) -> None:
        """Refuse a type that could not be captured: with QEMU's words where nothing was set that might help it.

        :raise Refusal: those words, or a property is refused.
        :raise NotModelled: something was set, and nothing is known against it.
        """
        needed = limits.NEEDED.get(driver)
        unset = needed not in options if needed else not any(name not in ASIDE for name in options)
        if "refusal" in captured and unset:
            raise self._without_anything(driver, captured, identifier)
        settings = self._home.settings
        around = unmodelled.Surroundings(
            self._computer, {each.get("id") for each in settings.objects},
            settings.topology.cpus if settings.board.has_cpus else 0, settings.memory,
        )
        unmodelled.check(driver, self._declared(driver), options, around, self._types, reader, text=text)
        self.check_needed(driver, options)
        raise NotModelled(f"adding a device of type {driver}")

    def _without_anything(self, driver: str, captured: dict[str, Any], identifier: str | None) -> Refusal:
        """What a type is refused with of which nothing was set that might help it."""
        code = _ADVISED.get(driver)
        if code is not None:
            settings = self._home.settings
            return Refusal(code, machine=settings.machine_name or self._rules.usual_machine)
        refusal = MachineError(captured["refusal"].replace(ID, identifier or ""))
        if not self._rules.keyval_options and _SYSTEM in self._types.is_a(driver):
            # The machine is complete by then, and the option forgotten.
            refusal.at("")
        return refusal

    def check_needed(self, driver: str, options: Options) -> None:
        """Refuse a type that could not be captured where it was not given what it cannot do without.

        :raise MachineError: it was not.
        """
        needed = limits.NEEDED.get(driver)
        captured = self._builder.captured("device", driver)
        if needed is not None and needed not in options and captured is not None and "refusal" in captured:
            raise MachineError(captured["refusal"])
