"""Taking devices away from a machine (QEMU's system/qdev-monitor.c, `device_del`).

A device on a PCI bus goes when the guest lets go of it, any other at once.  Either way what it was made of is still in
use for a while: until QEMU is sure that no thread of its own looks at it any more (RCU), which it waits for on the
computer's time, whether or not the machine runs.  Its node and its character device are the device's until then, and
DEVICE_DELETED comes at the end.  What goes meanwhile goes at the same end.  All that is an activity (`Unplug`).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from qmpd.hardware import controllers, places, processors, virtual_memory
from qmpd.hardware.acpi_slots import EJECT_REQUEST, FAILURE
from qmpd.hardware.controllers import Controller
from qmpd.hardware.failover import PAIR
from qmpd.machine.errors import MachineError
from qmpd.schedule.activity import Activity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from qmpd.hardware.acpi_slots import AcpiSlots
    from qmpd.hardware.backends import Backends
    from qmpd.hardware.buses import Buses, Device
    from qmpd.hardware.home import Home
    from qmpd.qom.tree import ObjectTree

BACKEND = "/backend"
_MILLISECOND = 1_000_000
_EXPRESS_LAPSE = 5_000 * _MILLISECOND


class RemovalRules(Protocol):
    """What releases differ in when devices go (`qmpd.qapi.behaviour.Behaviour`)."""

    @property
    def unplug_asked_once(self) -> bool:
        """Whether `device_del` is refused once a device was asked to go before the machine had run, until it goes."""

    @property
    def memory_change_tells_path(self) -> bool:
        """Whether MEMORY_DEVICE_SIZE_CHANGE has the path of the device."""

    @property
    def virtual_memory_leaves(self) -> bool:
        """Whether virtio-mem can be taken away where nothing of it is asked for."""

    @property
    def unpowered_slots_let_go(self) -> bool:
        """Whether a port of PCI Express lets a device go at once that no guest has used, and asks again after 5 s."""

    @property
    def cpu_unplug_needs_guest(self) -> bool:
        """Whether a CPU cannot be unplugged before the guest has looked at the machine's CPUs."""

    @property
    def unplug_lag(self) -> int:
        """The milliseconds from the moment at which a device has gone to the one at which what it used is free."""

    @property
    def adding_ends_lag(self) -> bool:
        """Whether `device_add` has what is leaving gone at once even where it succeeds."""

    @property
    def untold_devices(self) -> str:
        """The types, with commas between, whose devices QEMU never gets rid of, so that nothing tells of their end."""

    @property
    def memory_unplug_event(self) -> str:
        """The event that tells that the machine cannot take memory away; empty: there is none."""

    @property
    def unplug_refusal_event(self) -> str:
        """The event that tells that the guest will not let go of a device; empty: there is none."""


class UnplugState(enum.StrEnum):
    """How far a device has gone."""

    ASKED = "asked"
    """The guest has been asked to let go of it."""
    REFUSED = "refused"
    """It will not."""
    LEAVING = "leaving"
    """It is nowhere any more, and that is about to be told."""
    GONE = "gone"


class Unplug(Activity[UnplugState]):
    """The way of one device out of the machine, with all that hangs on it; `path` is where it is, or was."""

    KIND = "unplug"
    TRANSITIONS: ClassVar = {
        UnplugState.ASKED: frozenset({UnplugState.REFUSED, UnplugState.LEAVING}),
        UnplugState.REFUSED: frozenset(),
        UnplugState.LEAVING: frozenset({UnplugState.GONE}),
        UnplugState.GONE: frozenset(),
    }
    VERBS: ClassVar = {"answer": frozenset({UnplugState.ASKED}), "fail": frozenset({UnplugState.ASKED})}
    ENDS = frozenset({UnplugState.REFUSED, UnplugState.GONE})

    __slots__ = ("_removal", "answer", "lapses", "name", "path", "reason")

    def __init__(self, removal: Removal, name: str, path: str) -> None:
        super().__init__(UnplugState.ASKED)
        self._removal = removal
        self.name = name
        self.path = path
        # Whether the guest lets go of it; None while it has not said.
        self.answer: bool | None = None
        # Why the machine itself cannot let go of memory, where that is so.
        self.reason = ""
        # The machine's own time at which the request lapses, so that there can be another; None: it never does.
        self.lapses: int | None = 0

    def step(self) -> int | None:
        """Do what the guest has answered; a device that is nowhere any more is told of."""
        if self.state is UnplugState.LEAVING:
            self.enter(UnplugState.GONE)
            self._removal.tell(self)
        elif self.answer:
            self._removal.let_go(self)
        elif self.answer is not None:
            self.fail("the guest refuses")
        return None

    def fail(self, reason: str) -> None:
        """The device stays; the event has no place for a reason.

        :raise VerbRefused: it is gone.
        """
        self.require("fail")
        self.enter(UnplugState.REFUSED)
        self._removal.stays(self)

    def snapshot(self) -> dict[str, Any]:
        """Its state, the device's path, what the guest has said, and when the request lapses."""
        own = {"path": self.path, "answer": self.answer, "lapses": self.lapses, "reason": self.reason}
        return {**super().snapshot(), **own}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `snapshot` made this of."""
        super().restore(state)
        self.answer, self.lapses, self.reason = state["answer"], state["lapses"], state["reason"]


class Removal:
    """How devices leave one machine, their `home`.

    `in_use` are the ids that count as taken, though their devices may be gone from the tree: the options are there yet.
    `aside` are the paths of the devices that stay when the guest lets go of them, as a migration takes them out of the
    guest alone (primaries of failover pairs); and whether it still has each.
    """

    __slots__ = ("_backends", "_buses", "_gone", "_home", "_rules", "_slots", "_tree", "aside", "in_use")

    def __init__(
        self, tree: ObjectTree, buses: Buses, backends: Backends, rules: RemovalRules, home: Home, slots: AcpiSlots
    ) -> None:
        self._slots = slots
        self._tree = tree
        self._buses = buses
        self._backends = backends
        self._rules = rules
        self._home = home
        self.in_use: set[str] = set()
        self.aside: dict[str, bool] = {}
        # Those that have been let go of together, with their paths, by the activity that tells of them.
        self._gone: dict[str, list[tuple[Device, str]]] = {}

    # Asking

    def remove(self, device: Device, identifier: str, *, guest_listens: bool, migrating: bool = False) -> bool:
        """Remove a device, called so, as `device_del` does; whether the guest has to let go of it first.

        `guest_listens`: there is an operating system that runs.  `migrating`: the machine is on its way; only a primary
        of a failover pair may go then.

        :raise MachineError: it is refused.
        """
        by = controllers.controller(self._tree, device.bus)
        unplug = self._unplug(device.path)
        if unplug is not None and (unplug.lapses is None or self._home.schedule.now() < unplug.lapses):
            raise MachineError(f"Device {identifier} is already in the process of unplug")
        self.check_removable(device)
        if migrating and not device.node.value(PAIR):
            raise MachineError("device_del not allowed while migrating")
        virtual_memory.check_unplug(device, leaves=self._rules.virtual_memory_leaves)
        if processors.is_processor(device.node):
            self._check_processor(device, guest_listens=guest_listens)
        if not self._is_asked(device, by, guest_listens=guest_listens):
            self.take_away(device)
            return False
        self._ask(device, by)
        return True

    def _ask(self, device: Device, by: Controller) -> None:
        unplug = self._unplug(device.path) or self._begin(device.path)
        unplug.lapses = self._lapse(by)

    def set_aside(self, device: Device, *, guest_listens: bool) -> bool:
        """Have the guest let go of a device that stays where it is; whether the guest has to be asked."""
        by = controllers.controller(self._tree, device.bus)
        self.aside[device.path] = True
        if self._is_asked(device, by, guest_listens=guest_listens):
            self._ask(device, by)
            return True
        self.take_away(device)
        return False

    def _lapse(self, by: Controller) -> int | None:
        """The machine's own time at which a request made now lapses; None: it never does.

        ACPI's lapses after no time at all, but one that comes while the machine's time stands at 0 never does.
        """
        if by is Controller.EXPRESS:
            return self._home.schedule.now() + _EXPRESS_LAPSE if self._rules.unpowered_slots_let_go else None
        lasts = by is Controller.ACPI and self._rules.unplug_asked_once and not self._home.has_run
        return None if lasts else 0

    def _begin(self, path: str) -> Unplug:
        activities = self._home.activities
        name = f"{Unplug.KIND} {path}"
        if activities.find(name) is not None:
            # Another device was there, and its end is not told yet.
            name = activities.new_name(name)
        unplug = Unplug(self, name, path)
        activities.begin(name, unplug, None)
        return unplug

    def _is_asked(self, device: Device, by: Controller, *, guest_listens: bool) -> bool:
        """Whether the guest, that listens or not, has to let go of a device first."""
        if by is Controller.EXPRESS and controllers.is_hidden(device):
            return False  # the guest has never seen a function whose slot has no function 0
        if by is Controller.STANDARD or (by is Controller.EXPRESS and self._rules.unpowered_slots_let_go):
            # There is no power in a slot that was empty when the machine was reset, until a guest finds what is in it.
            return device.used or guest_listens
        return by is not Controller.BUS

    def check_removable(self, device: Device) -> None:
        """Refuse to take away what belongs to the machine for good.

        :raise MachineError: it does.
        """
        controllers.check_bus(self._tree, device.bus)
        if not device.node.value("hotpluggable"):
            raise MachineError(f"Device '{device.driver}' does not support hotplugging")

    def _check_processor(self, device: Device, *, guest_listens: bool) -> None:
        others = self._buses.devices.values()
        number = next(index for index, node in processors.plugged(others, self._home.settings) if node is device.node)
        processors.check_unplug(number)
        if self._rules.cpu_unplug_needs_guest and not (guest_listens or self._slots.cpus_found):
            raise MachineError(f"acpi: device unplug request for not supported device type: {device.node.type}")

    def asks(self, device: Device) -> bool:
        """Whether removing a device takes the guest's consent."""
        return controllers.controller(self._tree, device.bus) is not Controller.BUS

    # What the guest was asked

    def _asked(self) -> Iterator[Unplug]:
        for _, activity in self._home.activities:
            if isinstance(activity, Unplug) and activity.state is UnplugState.ASKED:
                yield activity

    def _unplug(self, path: str) -> Unplug | None:
        return next((each for each in self._asked() if each.path == path), None)

    def is_asked_for(self, device: Device) -> bool:
        """Whether the guest has been asked to let go of a device, and has not answered."""
        return self._unplug(device.path) is not None

    def pending(self) -> list[Device]:
        """The devices that the guest has been asked to let go of."""
        found = [device for each in self._asked() if (device := self._at(each.path)) is not None]
        return sorted(found, key=controllers.order)

    def _at(self, path: str) -> Device | None:
        node = self._tree.find(path)
        return None if node is None else self._buses.devices.get(id(node))

    def answer(self, path: str, *, releases: bool, reason: str = "") -> None:
        """The guest lets go of the device at this path, or will not; nothing where it was not asked.

        `reason`: why the machine cannot take away memory that the guest has let go of.
        """
        unplug = self._unplug(path)
        if unplug is not None:
            unplug.answer, unplug.reason = releases, reason
            self._home.activities.step_now(unplug.name)

    # Going

    def let_go(self, unplug: Unplug) -> None:
        """The guest has let go of a device."""
        device = self._at(unplug.path)
        if device is not None:
            self.take_away(device)

    def take_away(self, device: Device) -> None:
        """Let a device go, with all that hangs on it; DEVICE_DELETED tells of each of them, later.

        One that is set aside stays, and nothing is told.
        """
        if device.path in self.aside:
            self.aside[device.path] = False
            asked = self._unplug(device.path)
            if asked is not None:
                self._home.activities.forget(asked.name)
            return
        leaving = [(each, each.path) for one in device.below() for each in (*self._parts(one), one)]
        activities = self._home.activities
        unplug = self._unplug(device.path) or self._begin(device.path)
        for each, path in leaving:
            asked = None if each is device else self._unplug(path)
            if asked is not None:
                activities.forget(asked.name)
        # Nothing but its bus can still look at a device.
        lag = 0 if device.bus is None else self._rules.unplug_lag * _MILLISECOND
        for each, _ in leaving:
            if each.bus is not None or each is device:
                self._take(each)
        self._leave(unplug, leaving, lag)

    def _parts(self, device: Device) -> list[Device]:
        """The devices that a device is made of and that are on no bus, the newest first."""
        found = [self._buses.devices.get(id(part)) for part in device.node.below() if part is not device.node]
        return [each for each in reversed(found) if each is not None and each.bus is None]

    def take_apart(self, parts: list[tuple[Device, str]], path: str) -> None:
        """Tell of the parts, with their paths, of a device that was refused when they were there already."""
        self._leave(self._begin(path), parts, self._rules.unplug_lag * _MILLISECOND)

    def _leave(self, unplug: Unplug, leaving: list[tuple[Device, str]], lag: int) -> None:
        activities = self._home.activities
        lags = [left for name in self._gone if (left := activities.left(name)) is not None]
        self._gone[unplug.name] = leaving
        unplug.enter(UnplugState.LEAVING)
        activities.due(unplug.name, min([*lags, lag]))

    def drain(self) -> None:
        """Have all that is leaving gone, and told of, at once: `device_add` does so before it refuses something."""
        for name in list(self._gone):
            self._home.activities.step_now(name)

    def _take(self, device: Device) -> None:
        if device.bus is not None:
            places.give_back(device.bus, device)
            device.bus.remove(device)
        for part in device.node.below():
            self._buses.devices.pop(id(part), None)
        self.aside.pop(device.path, None)
        self._backends.detach(device)
        screens = self._tree.find(BACKEND)
        if screens is not None:
            for name in [name for name, each in screens.children.items() if each.owner is device.node]:
                screens.remove(name)
        holder = device.node.parent
        if holder is not None and holder.shape.static is not None:
            holder.remove(device.node.name)

    def tell(self, unplug: Unplug) -> None:
        """Tell of what has been let go of together."""
        for device, path in self._gone.pop(unplug.name):
            self._backends.release(device)
            if self._lingers(device, path):
                continue
            self._home.emit("DEVICE_DELETED", {**_named(device), "path": path})
            if device.identifier is not None:
                self.in_use.discard(device.identifier)

    def _lingers(self, device: Device, path: str) -> bool:
        """Whether QEMU never gets rid of a device, or of that which it is a part of.

        The emulator's own CPUs are among those, but KVM's are not.
        """
        if processors.is_processor(device.node):
            return not self._home.settings.kvm
        untold = self._rules.untold_devices.split(",")
        if device.driver in untold:
            return True
        holder = device.node.parent
        return device.bus is None and holder is not None and holder.type in untold and path.startswith(holder.path)

    def stays(self, unplug: Unplug) -> None:
        """Tell that a device does not go: of memory and of a CPU, the operating system reports it by ACPI."""
        device = self._at(unplug.path)
        if device is None:
            return
        place = self._slots.place_of(device, self._buses.devices.values(), self._home.settings)
        if place is not None and unplug.reason:
            if self._rules.memory_unplug_event:
                data: dict[str, object] = {"device": device.identifier or "", "msg": unplug.reason}
                self._home.emit(self._rules.memory_unplug_event, data)
            if self._rules.unplug_refusal_event:
                self._home.emit(self._rules.unplug_refusal_event, {**_named(device), "path": unplug.path})
        elif place is not None:
            self._home.emit("ACPI_DEVICE_OST", {"info": self._slots.report(place, EJECT_REQUEST, FAILURE)})
        elif self._rules.unplug_refusal_event:
            self._home.emit(self._rules.unplug_refusal_event, {**_named(device), "path": unplug.path})

    def reset(self) -> None:
        """The machine has been reset: ACPI lets go of the devices that are to go, and all others are in use now."""
        for device in self.pending():
            if id(device.node) in self._buses.devices:
                if controllers.controller(self._tree, device.bus) is Controller.ACPI:
                    self.take_away(device)
        for device in self._buses.devices.values():
            device.used = not controllers.is_hidden(device)


def _named(device: Device) -> dict[str, object]:
    return {} if device.identifier is None else {"device": device.identifier}
