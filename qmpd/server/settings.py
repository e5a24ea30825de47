"""What one served virtual machine is started with: its machine and its monitors."""

from __future__ import annotations

from dataclasses import dataclass, field

from qmpd.machine.settings import MachineSettings


@dataclass(slots=True, kw_only=True)
class MonitorSettings:
    """One `-qmp`: a Unix socket that listens.

    `wait` holds the machine's start until a client has come; `exclusive` serves one client at a time,
    as QEMU does; `pretty` indents what goes out.  `descriptor` is a socket that listens at the path already, None
    where it has to be made.
    """

    path: str
    wait: bool = False
    exclusive: bool = False
    pretty: bool = False
    chardev: str = "compat_monitor0"
    descriptor: int | None = None


@dataclass(slots=True, kw_only=True)
class VMSettings:
    """One virtual machine as the server runs it.  `release` is a name that `qmpd.qapi` knows.

    `control` is where the control socket listens, None where there is none; `transcript` the file that the transcript
    is written to; `clock` is what `-clock` takes: `real`, `scaled=FACTOR` or `virtual`.  `extensions` are what the
    release is given beside its own (`qmpd.qapi.extension`).  `folder` was made for the sockets and is removed at the
    end.
    """

    release: str = "7.2"
    machine: MachineSettings = field(default_factory=MachineSettings)
    monitors: list[MonitorSettings] = field(default_factory=list)
    pid_file: str | None = None
    control: MonitorSettings | None = None
    clock: str = "real"
    transcript: str | None = None
    extensions: tuple[str, ...] = ()
    folder: str | None = None
