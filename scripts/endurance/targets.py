"""What the fuzz is against: machines of a fleet in this process, and some that have a process each."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from endurance.process import SERVE, SYSTEM, Process, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from endurance.client import Address

    Door = int | str

CONTROL = "control"
"""The door that leads to a control socket."""

PATIENCE = 20.0
"""Seconds after which a server that does not answer counts as hung."""


@dataclass(frozen=True)
class Target:
    """A machine; of the fleet, unless it is told how many monitors it has.

    With `tcp` half of its monitors are TCP ports, each for one client at a time, and a character device is another one;
    else its process can be replaced (live update).
    """

    release: str
    options: tuple[str, ...]
    doors: int = 0
    tcp: bool = False


TARGETS = (
    Target("7.2", ("-machine", "none")),
    Target("7.2", ("-machine", "pc", "-guest", "boot-time=0,firmware=none", "-device", "pvpanic")),
    Target("5.2", ("-machine", "pc", "-preconfig")),
    Target("5.2", ("-machine", "none", "-no-shutdown")),
    Target("10.0", ("-machine", "pc", "-action", "shutdown=pause", "-guest", "on-powerdown=reboot,firmware=none")),
    Target("11.1", ("-machine", "pc", "-S")),
    Target("11.1", ("-machine", "none", "-name", "x")),
    Target("2.x-live-update", ("-machine", "none")),
    Target("10.0", ("-machine", "none", "-no-shutdown"), 6, tcp=True),
    Target("10.0", ("-machine", "pc", "-extension", "live-update", "-no-shutdown"), 1),
)
"""Which of them a plan means it says by number."""

FLEET_SIZE = sum(not target.doors for target in TARGETS)
PROGRAM, UPDATED = len(TARGETS) - 2, len(TARGETS) - 1
"""Those that have a process each."""

PUPPETS = (4, 5)
"""Those whose control socket is attacked, too; they are made anew after each round in which it was."""

FLEET = -1
"""Stands for the fleet's own control socket."""


class Hosted:
    """A machine with a process of its own; `files` and `sockets` are how many it has open when nobody is connected."""

    def __init__(self, folder: Path, target: Target) -> None:
        folder.mkdir(exist_ok=True)
        self.target = target
        self.folder = folder
        self.doors: list[Address] = []
        self.front: Address | None = None
        options = list(target.options)
        for number in range(target.doors):
            if target.tcp and number % 2:
                self.doors.append(("127.0.0.1", free_port()))
                options += ["-qmp", f"tcp:127.0.0.1:{self.doors[-1][1]},server=on,wait=off"]
            else:
                self.doors.append(str(folder / f"qmp{number}.sock"))
                options += ["-qmp", f"unix:{self.doors[-1]},server=on,wait=off"]
        if target.tcp:
            self.front = ("127.0.0.1", free_port())
            device = f"socket,id=front,host=127.0.0.1,port={self.front[1]},server=on,wait=off"
            options += ["-nodefaults", "-display", "none", "-chardev", device]
            self.process = Process(folder, [*SYSTEM, *options], QMPD_RELEASE=target.release)
        else:
            self.process = Process(folder, [*SERVE, "--release", target.release, *options])
        self.files = self.sockets = self.listeners = 0

    def wait(self) -> None:
        """Wait until it listens.

        :raise Lost: it does not.
        """
        deadline = time.monotonic() + PATIENCE
        for door in self.doors:
            while not self.process.try_to_connect(door, deadline):
                time.sleep(0.02)

    def settle(self) -> None:
        """Note how many files it has open when those are gone that have looked whether it listens."""
        same = 0
        while same < 4:
            count = len(self.process.files())
            same = same + 1 if count == self.files else 0
            self.files, self.sockets = count, self.process.sockets()
            self.listeners = self.process.listeners()
            time.sleep(0.02)

    def door(self, door: Door) -> Address:
        """One of its monitors, or the character device, where it has one."""
        if door == CONTROL:
            return self.front or self.doors[0]
        assert isinstance(door, int)
        return self.doors[door % len(self.doors)]
