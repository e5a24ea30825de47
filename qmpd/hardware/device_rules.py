"""What releases differ in where devices are concerned."""

from __future__ import annotations

from typing import Protocol

from qmpd.hardware.failover import PairRules
from qmpd.hardware.migratable import Rules as MigratableRules
from qmpd.hardware.removal import RemovalRules
from qmpd.qom.reader import ReaderRules


class DeviceRules(PairRules, RemovalRules, ReaderRules, MigratableRules, Protocol):
    """What releases differ in when devices come and go (`qmpd.qapi.behaviour.Behaviour`)."""

    @property
    def device_options_are_text(self) -> bool:
        """Whether `device_add` takes values for their text."""

    @property
    def device_options_in_order(self) -> bool:
        """Whether `-device` sets properties as they stand there; else in a dictionary's order, as all others do."""

    @property
    def bus_listed_by_option(self) -> bool:
        """Whether `-device` lists what is on a bus where it does not find what it looks for."""

    @property
    def usual_machine(self) -> str:
        """The name of the machine type that is meant where none is named."""

    @property
    def node_of_unplaced_cpu(self) -> int:
        """The memory node that a CPU may be said to be of where the machine has none."""

    @property
    def device_id_check(self) -> str:
        """When an id is looked at: `options` first of all, `identifier` at first for its form, `late`, or `none`."""

    @property
    def keyval_options(self) -> bool:
        """Whether `-object` takes typed values, and `-device` looks at what a board takes; both came together."""

    @property
    def memory_devices_checked_first(self) -> bool:
        """Whether a virtio memory device is refused for the machine's memory before it is looked at itself."""

    @property
    def send_queue_limit(self) -> int:
        """The most entries of the queue in which a virtio network card sends."""

    @property
    def rng_without_bytes(self) -> bool:
        """Whether a virtio random number generator may be limited to no bytes at all."""

    @property
    def pci_function_check(self) -> str:
        """When a function of a slot whose function 0 is there is refused: where it was `asked` for, or `always`."""

    @property
    def stick_has_drive_first(self) -> bool:
        """Whether a stick of USB has its drive itself before its disk has it."""

    @property
    def scsi_iothread_refused(self) -> bool:
        """Whether a SCSI disk is refused whose node another device keeps in another thread than the controller's."""

    @property
    def empty_device_id_found(self) -> bool:
        """Whether `device_del` of an empty id finds the container of devices, which is no device."""
