"""A machine whose monitor is spoken to without a socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from qmpd.cli.emulator import Complaints
from qmpd.cli.emulator_options import EmulatorOptions
from qmpd.cli.options import Option, scan
from qmpd.machine import VirtualClock
from qmpd.monitor.chardev import Chardev
from qmpd.monitor.dispatcher import Dispatcher
from qmpd.qapi import load_release

if TYPE_CHECKING:
    from collections.abc import Sequence

PC = ("-machine", "pc,accel=tcg", "-m", "32", "-display", "none", "-nodefaults", "-S")
SOCKET = "/run/qmp.sock"


class InProcess:
    """A machine that was given this command line (of `qmpd-system-x86_64`), with one client that has negotiated."""

    def __init__(self, release: str, options: Sequence[str] = PC) -> None:
        known = load_release(release)
        words = [*options, "-qmp", f"unix:{SOCKET},server=on,wait=off"]
        options_known = known.command_line.options.items()
        table = {name: Option(name, "A" if takes else None, "", None) for name, takes in options_known}
        given, _ = scan(words, table)
        parsed = EmulatorOptions(known, Complaints("qemu-system-x86_64"))
        for each in given:
            parsed.take(each)
        parsed.check_actions()
        chardevs = [Chardev("compat_monitor0", f"unix:{SOCKET}")]
        self.clock = VirtualClock()
        self.dispatcher = Dispatcher(known, parsed.finish().machine, self.clock, lambda: None, chardevs)
        self.dispatcher.machine.start()
        self.session = self.dispatcher.open_session()
        self.session.outgoing.clear()
        self.say(b'{"execute": "qmp_capabilities"}')

    def say(self, data: bytes) -> list[bytes]:
        """Send bytes; gives the lines that come back."""
        self.session.receive(data)
        self.dispatcher.run_requests()
        while self.dispatcher.machine.pending:
            self.dispatcher.turn()
        self.dispatcher.machine.run_timers()
        said = b"".join(self.session.outgoing).split(b"\r\n")[:-1]
        self.session.outgoing.clear()
        return said

    def said(self, command: str, arguments: dict[str, Any] | None = None, /, **more: Any) -> list[bytes]:
        """Execute a command; gives its reply and the events that came with it."""
        given = arguments or {name.replace("_", "-"): value for name, value in more.items()}
        return self.say(json.dumps({"execute": command, "arguments": given}).encode())
