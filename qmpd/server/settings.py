"""What one served virtual machine is started with: its machine and its monitors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qmpd.chardev.multiplexer import ESCAPE
from qmpd.common.addresses import describe_unix
from qmpd.machine.blueprint import MachineSettings


@dataclass(slots=True, kw_only=True)
class MonitorSettings:
    """One monitor: a Unix socket that listens, or, with a `host`, a TCP socket.

    `wait` holds the machine's start until a client has come; `exclusive` serves one client at a time,
    as QEMU does; `replaces` takes the place even of a live server's socket, as QEMU does; `pretty` indents what goes
    out.  `descriptor` is a socket that listens at the path already, None where it has to be made.
    """

    path: str
    wait: bool = False
    exclusive: bool = False
    replaces: bool = False
    pretty: bool = False
    chardev: str = "compat_monitor0"
    descriptor: int | None = None
    # What only the drop-in program sets: the human monitor is `readline`, a test program's socket `qtest`, and `port`
    # stands for a device of the guest's that shares a character device with others; `address` is how query-chardev
    # names a socket that is not known by its path; `location` is the option that asked for the monitor, for messages.
    mode: str = "control"
    address: str = ""
    location: str = ""
    host: str | None = None
    port: str = ""
    # Whether it is an object of the user's, which can be taken away.
    removable: bool = False
    # What query-chardev begins the address with that is no path.
    scheme: str = "tcp"

    def name(self, flag: str) -> str:
        """What query-chardev calls it; `flag` is what the release has behind a flag."""
        return self.address or describe_unix(self.path, flag)


@dataclass(slots=True, kw_only=True)
class ChardevSettings:
    """One character device that is no listening socket with a monitor on it.

    `backend` says how it is opened: `listen` and `connect` for sockets, else the name that `-chardev` has for it, which
    is the `kind` of all.  `monitor` is what talks through it, None for a device that nothing here uses.  `reconnect` is
    the seconds after which a lost connection is made again, 0 for never.  `ring` is how many bytes it keeps.  `logfile`
    is where what is written to it is to be found, too.  `listened`: a device of the board's (a serial port, say) uses
    it.  `wait`: a listening socket holds the machine's start until a client has come.  `base` is what the device itself
    is called where it is shared (a multiplexer), else empty: `users` have it together then, a monitor each or a device
    of the guest's; `escape` is what comes before their common keys.
    `network` is what a network backend is given that has its socket here, None for all character devices.
    `telnet`, `tn3270` and `websocket` are what the clients of a listening socket speak.
    """

    label: str
    backend: str
    monitor: MonitorSettings | None = None
    location: str = ""
    path: str = ""
    input_path: str = ""
    append: bool = False
    host: str | None = None
    port: str = ""
    descriptor: int | None = None
    listens: bool = False
    reconnect: float = 0.0
    signal: bool = True
    listened: bool = False
    wait: bool = False
    kind: str = ""
    ring: int = 0
    logfile: str = ""
    log_append: bool = False
    base: str = ""
    users: list[MonitorSettings] = field(default_factory=list)
    escape: int = ESCAPE
    telnet: bool = False
    tn3270: bool = False
    websocket: bool = False
    network: dict[str, Any] | None = None

    @property
    def shared(self) -> bool:
        """Whether several have it together."""
        return bool(self.base)

    @property
    def has_dialect(self) -> bool:
        """Whether clients speak anything but plain bytes; a socket that connects never does."""
        return self.listens and (self.telnet or self.tn3270 or self.websocket)

    @property
    def scheme(self) -> str:
        """What query-chardev begins the address with that is no path."""
        return "telnet" if self.telnet else "websocket" if self.websocket else "tcp"


@dataclass(slots=True, kw_only=True)
class VMSettings:
    """One virtual machine as the server runs it.  `release` is a name that `qmpd.qapi` knows.

    `control` is where the control socket listens, None where there is none; `transcript` the file that the transcript
    is written to; `clock` is what `-clock` takes: `real`, `scaled=FACTOR` or `virtual`, or `stepped` under qtest.
    `extensions` are what the release is given beside its own (`qmpd.qapi.extension`).  `folder` was made for the
    sockets and is removed at the end.  With `thread_names` the kernel shows which thread is which CPU's.  `debugger` is
    the device that debuggers connect to (`qmpd.server.debugging`), None where there is none.
    """

    release: str = "10.0"
    machine: MachineSettings = field(default_factory=MachineSettings)
    monitors: list[MonitorSettings] = field(default_factory=list)
    pid_file: str | None = None
    control: MonitorSettings | None = None
    clock: str = "real"
    disk_pace: int = 0
    transcript: str | None = None
    extensions: tuple[str, ...] = ()
    folder: str | None = None
    chardevs: list[ChardevSettings] = field(default_factory=list)
    thread_names: bool = False
    # Whether the log is a JSON object a line.
    json_log: bool = False
    debugger: ChardevSettings | None = None
    # Open files of the caller's to begin with, as (set, number, opaque).
    descriptors: list[tuple[int, int, str | None]] = field(default_factory=list)
