"""The human monitor's command that lets debuggers connect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import NotModelled, Refusal, Worded

if TYPE_CHECKING:
    from qmpd.human.asking import Part
    from qmpd.human.line import Line
    from qmpd.system.system import System


def _gdbserver(system: System, line: Line) -> str:
    device = line.word()
    device = "tcp::1234" if device is None else device
    line.end()
    if system.host is None:
        raise NotModelled("debuggers here")
    try:
        if system.host.open_debugger(device):
            return f"Waiting for gdb connection on device '{device}'\n"
        return "Disabled gdbserver\n"
    except Worded:
        raise
    except Refusal as error:
        words = system.release.refusals
        whole = words.message(Refusal("gdbserver-failed", why=error, device=device))
        reason = error.values.get("reason", "")
        said = [words.message(reason) if isinstance(reason, Refusal) else str(reason), *whole.split("\n")]
        return "".join(f"{each}\n" for each in said if each)


PARTS: dict[str, Part] = {"gdbserver": _gdbserver}
"""The commands, by their names."""
