"""Starting VMs for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.qapi import DEFAULT_RELEASE
from qmpd.testing import settings as asked
from qmpd.testing.local import LocalVM
from qmpd.testing.settings import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qmpd.testing.vm import VM

RELEASE = DEFAULT_RELEASE
"""The release where none is asked for."""


def start(
    *,
    machine: str = "pc",
    guest: str | Mapping[str, Any] | None = None,
    release: str = RELEASE,
    clock: str = "real",
    options: Sequence[str] = (),
    command_line: Sequence[str] | None = None,
    monitors: int = 1,
    exclusive: bool = False,
    wait: bool = False,
    subprocess: bool = False,
) -> VM:
    """Start a VM.  It is a context manager; otherwise it has to be closed.

    :param machine: as `-machine`: `pc`, or `none`, which has no CPU and no guest.
    :param guest: an operating system for machine `pc`, with the options of `-guest`, as its text
        (`"boot-time=2s,on-powerdown=none"`, or `""` for one with none) or by name (`{"boot_time": 2}`).  None: there
        is nothing to boot.
    :param release: the release of QEMU, by its name, or a captured folder.
    :param clock: `real`, `scaled=FACTOR`, or `virtual`, where time passes when `vm.clock` is told so.
    :param options: more of QEMU's options, as on its command line: `["-S", "-device", "pvpanic"]`.  Where a `-qmp` is
        among them there are no other QMP sockets.
    :param command_line: QEMU's own command line, whole, as the program `qmpd-system-x86_64` takes it, in place of
        `machine` and `options`: `["-machine", "q35", "-chardev", "pty,id=c0", "-netdev", "user,id=n0", "-device",
        "virtio-net-pci,netdev=n0"]`.
    :param monitors: how many QMP sockets there are (`vm.qmp_paths`).
    :param exclusive: they serve one client at a time, as QEMU does.
    :param wait: the machine starts with the first client.
    :param subprocess: run it in a process of its own, which can be killed.
    :raise StartError: an option is wrong, or a socket cannot be made.
    """
    pairs = None if guest is None else asked.guest_pairs(guest)
    if command_line is None:
        made, inventory = asked.settings(machine, pairs, release, clock, options)
    elif options or subprocess:
        raise StartError("command_line is the whole command line, of a VM in this process")
    else:
        made, inventory = asked.of_command_line(command_line, pairs, release, clock)
    folder = asked.Folder()
    try:
        if not made.monitors:
            made.monitors = asked.monitors(folder, monitors, exclusive, wait)
        if subprocess:
            from qmpd.testing.process import ProcessVM

            return ProcessVM(made, folder, asked.arguments(machine, pairs, release, options))
        return LocalVM(made, folder, inventory)
    except BaseException:
        folder.remove()
        raise
