"""Packets about what is in a machine: its CPUs' breakpoints and registers, and its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.debugger.breakpoints import Invalid, NotThere, Unsupported
from qmpd.debugger.table import FAULT, INVALID, OK, UNKNOWN, from_hex, number_at, text_at

if TYPE_CHECKING:
    from qmpd.debugger.arguments import Thread
    from qmpd.debugger.target import Processor, Target

    Arguments = list[int | str | Thread]


# Breakpoints


def insert(target: Target, arguments: Arguments) -> None:
    """Set a breakpoint or watchpoint in all CPUs (Z)."""
    if len(arguments) != 3:
        target.tell(INVALID)
        return
    kind, address, length = (number_at(arguments, place) for place in range(3))
    try:
        for processor in target.threads():
            processor.breakpoints.insert(kind, address, length)
    except Unsupported:
        target.tell(UNKNOWN)
    except Invalid:
        target.machine.report(f"tried to set invalid watchpoint at {address:x}, len={length}")
        target.tell(INVALID)
    else:
        target.tell(OK)


def remove(target: Target, arguments: Arguments) -> None:
    """Remove one from all CPUs (z)."""
    if len(arguments) != 3:
        target.tell(INVALID)
        return
    kind, address, length = (number_at(arguments, place) for place in range(3))
    try:
        for processor in target.threads():
            processor.breakpoints.remove(kind, address, length)
    except Unsupported:
        target.tell(UNKNOWN)
    except NotThere:
        target.tell(INVALID)
    else:
        target.tell(OK)


# Registers


def _knows_registers(target: Target) -> bool:
    return target.described or not target.face.behaviour.description_first


def read_register(target: Target, processor: Processor, arguments: Arguments) -> None:
    """Read one register (p)."""
    if not _knows_registers(target):
        target.tell(UNKNOWN)
        return
    found = processor.registers.read(number_at(arguments, 0)) if arguments else b""
    target.keep(found)
    target.tell(found.hex().encode() or FAULT)


def write_register(target: Target, processor: Processor, arguments: Arguments) -> None:
    """Write one register (P)."""
    if not _knows_registers(target):
        target.tell(UNKNOWN)
    elif len(arguments) != 2:
        target.tell(INVALID)
    else:
        number, registers = number_at(arguments, 0), processor.registers
        target.keep(from_hex(text_at(arguments, 1)))
        registers.write(number, bytes(target.scratch[: registers.width(number)]))
        target.tell(OK)


def read_registers(target: Target, processor: Processor, arguments: Arguments) -> None:
    """Read all registers (g)."""
    found = processor.registers.read_all()
    target.keep(found)
    target.tell(found.hex().encode())


def write_registers(target: Target, processor: Processor, arguments: Arguments) -> None:
    """Write what was given; where that ends within a register, what follows is what was there before."""
    if not arguments:
        return
    data = from_hex(text_at(arguments, 0))
    target.keep(data)
    registers, left, at = processor.registers, len(data), 0
    for number in range(len(registers)):
        if not left:
            break
        width = registers.width(number)
        registers.write(number, bytes(target.scratch[at : at + width]))
        at += width
        left -= width
    target.tell(OK)


# Memory


def read_memory(target: Target, processor: Processor, arguments: Arguments) -> None:
    """Read memory (m)."""
    if len(arguments) != 2 or number_at(arguments, 1) > target.face.behaviour.packet_size // 2:
        target.tell(INVALID)
        return
    found = target.read(number_at(arguments, 0), number_at(arguments, 1))
    if found is None:
        target.tell(FAULT)
        return
    target.tell(found.hex().encode())


def write_memory(target: Target, processor: Processor, arguments: Arguments) -> None:
    """Write memory (M)."""
    if len(arguments) != 3 or number_at(arguments, 1) > len(text_at(arguments, 2)) // 2:
        target.tell(INVALID)
        return
    data = from_hex(text_at(arguments, 2)[: 2 * number_at(arguments, 1)])
    target.tell(OK if target.write(number_at(arguments, 0), data) else FAULT)
