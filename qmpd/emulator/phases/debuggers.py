"""`-gdb` and `-s`: where debuggers connect (QEMU's gdbstub, `gdbserver_start`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import NotModelled, Refusal
from qmpd.emulator.reading.chardevs import Surroundings
from qmpd.option_language.errors import OptionError
from qmpd.server import debugging
from qmpd.server.settings import MonitorSettings

if TYPE_CHECKING:
    from qmpd.emulator.reading.options import EmulatorOptions
    from qmpd.server.settings import VMSettings

_SHORT = "s"


def take_debuggers(options: EmulatorOptions, settings: VMSettings) -> None:
    """Take all of them; each opens a device, which the next can only give up.

    :raise OptionError, Refusal: there is no such device, or the machine has no CPU.
    """
    for name in (_SHORT, "gdb"):
        for given in options.given.get(name, ()):
            try:
                if not settings.machine.board.has_cpus:
                    raise Refusal("debugger-without-cpu")
                _take(options, settings, debugging.USUAL if name == _SHORT else given.value, given.location)
            except NotModelled as error:
                raise error.at(given.location) from None
            except Refusal as error:
                lines = debugging.messages(options.release.refusals, error)
                if not lines:
                    raise options.lists.failure() from None
                raise OptionError("\n".join(lines), given.location) from None


def _take(options: EmulatorOptions, settings: VMSettings, text: str, location: str) -> None:
    is_another = text.startswith(debugging.OF_ANOTHER)
    is_new = not is_another and text not in ("", debugging.NO_DEVICE)
    if is_new:
        debugging.check_free(settings.debugger, options.release)
    try:
        if is_another:
            label = text.removeprefix(debugging.OF_ANOTHER)
            options.chardevs.lend(label, MonitorSettings(path="", exclusive=True, chardev=label, mode=debugging.MODE))
        elif is_new:
            options.chardevs.try_out("gdb", debugging.forced(text), location)
    except NotModelled:
        raise
    except Refusal as error:
        raise debugging.refused(error) from None
    around = Surroundings(options.chardevs, location)
    settings.debugger = debugging.read_device(text, options.release, location, around)
