"""What a machine has where the command line does not say otherwise (`qemu_create_default_devices` in system/vl.c).

`-nodefaults` takes all of it away, and what was asked for takes the place of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.machine.blueprint import BoardPart, Place
from qmpd.option_language.errors import NOWHERE, OptionError
from qmpd.option_language.options import Given, Option

if TYPE_CHECKING:
    from qmpd.emulator.reading.options import EmulatorOptions
    from qmpd.machine.boards import Board

_KINDS = ("serial", "parallel")
_SCREEN = "vc:80Cx24C"
# The types of device of which one makes the machine do without the screen that it has by default.
_SCREENS = frozenset({
    "isa-cirrus-vga", "cirrus-vga", "isa-vga", "VGA", "bochs-display", "vmware-svga", "qxl-vga", "virtio-vga",
    "virtio-vga-gl", "ati-vga", "vhost-user-vga",
})  # fmt: skip


class Defaults:
    """Decides what else there is, of what one command line asks for."""

    def __init__(self, options: EmulatorOptions, board: Board) -> None:
        self._options = options
        self._board = board
        values, given = options.values, options.given
        self.wanted = "nodefaults" not in values
        self._nographic = "nographic" in values
        self._monitor = self.wanted and not options.chardevs.monitor_given
        if any(each.value.startswith("mon:") for kind in _KINDS for each in given.get(kind, ())):
            self._monitor = False
        entries = (*options.groups.find("device"), *options.groups.find("global"))
        self.drivers: set[object] = {entry.get("driver") for entry in entries}
        self.drivers |= {each.get("driver") for _, each in options.devices}

    def create_monitor(self) -> None:
        """The human monitor that there is where no option decides about it.

        :raise OptionError: it would be on a terminal that a daemon does not have.
        """
        options = self._options
        if options.process.daemonize and self._nographic and self.wanted:
            if self._monitor or any(kind not in options.given for kind in _KINDS):
                raise OptionError("-nographic cannot be used with -daemonize", NOWHERE)
        if self._monitor and not (self._nographic and self._has_default("serial")):
            options.chardevs.default_monitor(self._nographic)

    def _has_default(self, kind: str) -> bool:
        # A character device is there for each port, whether the board has it or not.
        is_asked_for = kind in self._options.given or f"isa-{kind}" in self.drivers
        return self.wanted and self._board.has_cpus and not is_asked_for

    def _ports(self, kind: str) -> list[Given]:
        if not self._has_default(kind):
            return list(self._options.given.get(kind, ()))
        text = _SCREEN
        if self._nographic:
            text = "null" if kind == "parallel" else "mon:stdio" if self._monitor else "stdio"
        return [Given(Option(kind, None, "", None), NOWHERE, text)]

    def make_ports(self) -> list[BoardPart]:
        """Connect the board's serial and parallel ports to their character devices; gives the ports that there are.

        :raise Refusal: a character device cannot be had.
        """
        parts = []
        most = {"serial": self._board.serial_ports, "parallel": self._board.parallel_ports}
        for kind in _KINDS:
            for given in self._ports(kind):
                made = self._options.chardevs.make_port(given, kind)
                if made is None:
                    continue
                if made[0] >= most[kind]:
                    self._options.chardevs.devices[made[1]].listened = False
                else:
                    properties: dict[str, object] = {"index": made[0], "chardev": made[1]}
                    parts.append(BoardPart(place=Place.PORT, driver=f"isa-{kind}", properties=properties))
        return parts

    def screen(self) -> list[BoardPart]:
        """The board's screen, if any."""
        text = self._options.values.get("vga")
        if text is None and self.wanted and not self.drivers & _SCREENS:
            text = self._board.default_screen
        driver = self._board.screens.get((text or "").partition(",")[0])
        return [BoardPart(place=Place.SCREEN, driver=driver)] if driver is not None else []
