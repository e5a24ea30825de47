"""The human monitor's commands for the parts of a machine, all of them, and what they print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.integers import from_digits, is_digits
from qmpd.common.refusals import Refusal
from qmpd.human import (
    chardevs,
    cpus,
    debuggers,
    dirty_pages,
    drives,
    exports,
    forwarding,
    migration,
    objects,
    plugging,
    snapshots,
    various,
)  # fmt: skip
from qmpd.human.asking import execute, without_arguments
from qmpd.human.errors import Misread
from qmpd.human.information import INFORMATION
from qmpd.human.line import Line
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from qmpd.human.asking import Part
    from qmpd.system.system import System

__all__ = ["INFORMATION", "INFORMATION_MEANINGS", "MEANINGS", "PARTS", "Line", "run"]

_MEBIBYTE = 1 << 20


def _balloon(system: System, line: Line) -> str:
    word = line.word()
    if word is None:
        raise Misread("unexpected end of expression")
    if not is_digits(word):
        raise Misread(f"invalid char '{word[0]}' in expression")
    line.end()
    return execute(system, "balloon", {"value": from_digits(word) * _MEBIBYTE})


def _migrate_recover(system: System, line: Line) -> str:
    uri = line.required()
    line.end()
    return execute(system, "migrate-recover", {"uri": uri})


PARTS: dict[str, Part] = {
    **various.PARTS,
    **plugging.PARTS,
    **chardevs.PARTS,
    **cpus.PARTS,
    **debuggers.PARTS,
    **dirty_pages.PARTS,
    **objects.PARTS,
    **drives.PARTS,
    **exports.PARTS,
    **forwarding.PARTS,
    **migration.PARTS,
    **snapshots.PARTS,
    "balloon": _balloon,
    "exit_preconfig": without_arguments("x-exit-preconfig"),
    "migrate_cancel": without_arguments("migrate_cancel"),
    "migrate_pause": without_arguments("migrate-pause"),
    "migrate_recover": _migrate_recover,
    "migrate_start_postcopy": without_arguments("migrate-start-postcopy"),
}
"""The commands, by their names."""

MEANINGS = {
    **exports.MEANINGS,
    **snapshots.MEANINGS,
    "qemu-io": "[-d] DRIVE COMMAND -- read and write a disk as qemu-io does",
    "exit_preconfig": "-- go on where the command line said -preconfig",
    "migrate": "[-d] [-r] URI -- have the machine go there",
    "migrate_cancel": "-- give up the migration that is under way",
    "migrate_pause": "-- pause a migration",
    "migrate_recover": "URI -- go on with a migration that was paused",
    "migrate_start_postcopy": "-- turn a migration into one that copies later",
    "device_add": "DRIVER[,PROPERTY=VALUE]... -- plug in a device",
    "device_del": "DEVICE -- take a device out",
    "netdev_add": "TYPE,id=ID[,OPTION=VALUE]... -- add a network backend",
    "netdev_del": "ID -- take a network backend away",
    "gdbserver": "[DEVICE|none] -- let a debugger connect, or none any more",
    "hostfwd_add": "[NETDEV] RULE -- forward a port of the host to the guest; nothing goes there",
    "hostfwd_remove": "[NETDEV] PROTOCOL:[ADDRESS]:PORT -- forward a port no more",
    "set_link": "NAME on|off -- put a network link up or down",
    "chardev-add": "BACKEND,id=ID[,OPTION=VALUE]... -- add a character device",
    "chardev-remove": "ID -- take a character device away",
    "chardev-change": "ID BACKEND[,OPTION=VALUE]... -- give a character device another backend",
    "chardev-send-break": "ID -- send a break; nobody notices",
    "ringbuf_read": "ID SIZE -- take out what a ring keeps",
    "ringbuf_write": "ID TEXT -- put something into a ring",
    "object_add": "TYPE,id=ID[,PROPERTY=VALUE]... -- make an object",
    "object_del": "ID -- take an object away",
    "drive_add": "ADDRESS if=none[,id=ID][,file=FILE][,format=FORMAT] -- add a drive",
    "drive_del": "DRIVE -- take a drive away",
    "change": "DRIVE FILE [FORMAT [MODE]] -- put another medium into a drive",
    "eject": "[-f] DRIVE -- take the medium out of a drive",
    "snapshot_blkdev": "[-n] DRIVE FILE [FORMAT] -- have what is written from now on go to another image",
    "snapshot_blkdev_internal": "DRIVE NAME -- take a snapshot of a disk, within its image",
    "snapshot_delete_blkdev_internal": "DRIVE NAME [ID] -- delete one",
    "dump-guest-memory": "[-p] [-d] [-z] FILE [BEGIN LENGTH] -- write the guest's memory into a file",
    "memsave": "ADDRESS SIZE FILE -- write a part of it as a CPU sees it",
    "pmemsave": "ADDRESS SIZE FILE -- write a part of it",
    "balloon": "MIB -- ask the guest to do with that much memory",
}
INFORMATION_MEANINGS = {
    "mice": "-- the pointing devices",
    "balloon": "-- how much memory the guest has",
    "block": "[DRIVE] -- the drives and what is in them",
    "chardev": "-- the character devices",
    "dump": "-- how far a dump of the guest's memory is",
    "memory-devices": "-- the memory that was plugged in",
    "memory_size_summary": "-- how much memory there is",
    "network": "-- the network cards and their backends",
    "numa": "-- the NUMA nodes",
    "snapshots": "-- the snapshots of the machine",
}


def run(system: System, part: Part, line: Line, hint: str) -> str | Deferred:
    """Execute one of these commands; gives what it prints."""

    def refused(error: Refusal) -> str:
        words = system.release.refusals
        said = "\n".join([f"Error: {words.message(error)}", *words.hint(error)])
        return said if words.is_open(error) else f"{said}\n"

    try:
        said = part(system, line)
    except Misread as error:
        return f"{error}\n{hint}" if str(error) else hint
    except Refusal as error:
        return refused(error)
    return said.refused_as(refused) if isinstance(said, Deferred) else said
