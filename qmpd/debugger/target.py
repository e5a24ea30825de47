"""What a debugger has before it: the CPUs of one machine, which are its threads, and their memory.

There is one process, number 1, with a thread for each CPU, number 1 for the first.  Nothing is executed here.  A CPU
that is set going stops at once where it is to step, or where a breakpoint is at its program counter; any other comes to
a breakpoint when the puppeteer says so (`arrive`, `touch`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.debugger.breakpoints import WATCHPOINTS, Access, Breakpoints, Watchpoint
from qmpd.debugger.memory import pages
from qmpd.debugger.registers import Registers
from qmpd.machine import RunState
from qmpd.machine.run_state import NEEDS_RESET

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from qmpd.debugger.arguments import Thread
    from qmpd.debugger.memory import Memory
    from qmpd.machine import Machine
    from qmpd.qapi.debugger import DebuggerFace

PROCESS = 1
"""The number of the one process."""

SIGNALS: dict[RunState, int | None] = {
    RunState.DEBUG: 5,
    RunState.PAUSED: 2,
    RunState.SHUTDOWN: 3,
    RunState.IO_ERROR: 17,
    RunState.WATCHDOG: 14,
    RunState.INTERNAL_ERROR: 6,
    RunState.FINISH_MIGRATE: 24,
    RunState.SAVE_VM: None,
    RunState.RESTORE_VM: None,
}
"""The signal by which a stop in each run state is told (GDB's numbers); None: it is not told."""

OTHER_SIGNAL = 143
"""The signal by which a stop in any other run state is told: one that GDB does not know."""

_TRAP = 5


class Processor:
    """One CPU: `steps` says whether it executes a single instruction when it is set going.

    `hit` is the watchpoint that it has come to and not told of.
    """

    __slots__ = ("arrived", "breakpoints", "hit", "index", "registers", "steps")

    def __init__(self, index: int, registers: Registers) -> None:
        self.index = index
        self.registers = registers
        self.breakpoints = Breakpoints()
        self.steps = False
        self.hit: Watchpoint | None = None
        # Whether the puppeteer has set it going since the last reset.
        self.arrived = False

    @property
    def thread(self) -> int:
        """The number of its thread."""
        return self.index + 1

    def reset(self) -> None:
        """Be as after a reset; breakpoints stay."""
        self.registers.reset()
        self.arrived = False


class Target:
    """One machine as a debugger sees it.

    `tell` sends a packet's content, `kill` ends the machine as the debugger asks for.  `continued` is the CPU that `c`
    and `s` are about, `general` the one that all else is about; None while the debugger has no process.  `awaits` says
    that its last packet awaits a stop reply.
    """

    __slots__ = (
        "_numbers", "_versions", "attached", "awaits", "continued", "described", "face", "general", "kill", "machine",
        "memory", "monitor", "multiprocess", "physical", "processors", "scratch", "step_flags", "tell", "unlisted",
    )  # fmt: skip

    def __init__(
        self,
        machine: Machine,
        face: DebuggerFace,
        memory: Memory,
        numbers: Callable[[], Iterable[int]],
        version: Callable[[int], int | None],
        monitor: Callable[[str], str],
    ) -> None:
        """`numbers` gives the CPUs that there are, `version` what each says of itself, where that is known; `monitor`
        executes a line of the human monitor."""
        self.machine = machine
        self.face = face
        self.memory = memory
        self.monitor = monitor
        self._numbers = numbers
        self._versions = version
        self.tell: Callable[[bytes], None] = _nobody
        self.kill: Callable[[], None] = _nothing
        self.processors: dict[int, Processor] = {}
        self.attached = False
        self.continued: Processor | None = None
        self.general: Processor | None = None
        self.awaits = False
        self.multiprocess = False
        # Whether the target's description was asked for; whether addresses are taken for physical ones.
        self.described = False
        self.physical = False
        self.step_flags = 7
        # The threads that qsThreadInfo has still to list.
        self.unlisted: list[Processor] = []
        # What packets are read into; a packet that brings less than it says meets what was there before.
        self.scratch = bytearray(face.behaviour.packet_size)

    # Threads

    def threads(self) -> list[Processor]:
        """The CPUs that there are now, in their order; those that were plugged in are as after a reset."""
        numbers = list(self._numbers())
        for number in numbers:
            if number not in self.processors:
                registers = Registers(self.face.registers, self.face.behaviour, self._versions(number))
                self.processors[number] = Processor(number, registers)
        for gone in self.processors.keys() - set(numbers):
            del self.processors[gone]
        return [self.processors[number] for number in numbers]

    def attach(self) -> None:
        """Have the process, and its first thread."""
        self.attached = True
        self.continued = self.general = self.threads()[0]

    def detach(self) -> None:
        """Have no process any more; its breakpoints are gone."""
        for processor in self.threads():
            processor.breakpoints.clear()
        self.attached = False

    def find(self, wanted: Thread) -> Processor | None:
        """The CPU that a packet names."""
        if not self.attached or wanted.process not in (0, PROCESS):
            return None
        threads = self.threads()
        if not wanted.thread or not wanted.is_one:
            return threads[0]
        return next((each for each in threads if each.thread == wanted.thread), None)

    def name(self, processor: Processor) -> bytes:
        """A CPU's thread as packets name it."""
        return b"p%02x.%02x" % (PROCESS, processor.thread) if self.multiprocess else b"%02x" % processor.thread

    def is_halted(self, processor: Processor) -> bool:
        """Whether a CPU waits to be woken: all but the first do until the guest has set them going."""
        guest = self.machine.guest
        started = guest is not None and guest.all_cpus_run
        return processor.index > 0 and not (processor.arrived or started)

    # Execution

    def interrupt(self) -> None:
        """Stop the machine, as a client's `stop` does."""
        self.machine.vm_stop(RunState.PAUSED)

    def resume(self, chosen: Sequence[Processor] | None = None, stepping: Container[int] = ()) -> None:
        """Set the machine going, and the chosen CPUs in it, all by default; nothing where only a reset helps.

        Those CPUs whose indexes are among `stepping` step.
        """
        if self.machine.state in NEEDS_RESET:
            return
        self.machine.vm_start()
        for processor in self.threads() if chosen is None else chosen:
            processor.steps = processor.steps or processor.index in stepping
        for processor in self.threads() if chosen is None else chosen:
            if processor.steps:
                if not processor.breakpoints.breaks(processor.registers.address):
                    processor.registers.step()
            elif self.is_halted(processor) or not processor.breakpoints.breaks(processor.registers.address):
                continue
            self._stop_at(processor)
            return

    def _stop_at(self, processor: Processor) -> None:
        """Have the machine stopped in `debug`, by this CPU."""
        if self.attached:
            self.continued = self.general = processor
        self.machine.system_debug()

    def arrive(self, index: int, address: int) -> bool:
        """A CPU comes to an address while the machine runs; whether a breakpoint stops it there.

        :raise LookupError: there is no such CPU.
        """
        processor = self._running(index)
        processor.registers.arrive(address)
        if not processor.breakpoints.breaks(address):
            return False
        self._stop_at(processor)
        return True

    def touch(self, index: int, access: Access, address: int, length: int) -> bool:
        """A CPU reads or writes memory while the machine runs; whether a watchpoint stops it.

        :raise LookupError: there is no such CPU.
        """
        processor = self._running(index)
        processor.hit = processor.breakpoints.watches(access, address, length)
        if processor.hit is None:
            return False
        self._stop_at(processor)
        return True

    def _running(self, index: int) -> Processor:
        self.threads()
        processor = self.processors[index]
        processor.arrived = True
        return processor

    # What the machine tells

    def stopped(self, state: RunState) -> None:
        """The machine has stopped: the debugger is told, where it has a process and is to know."""
        processor = self.continued
        if processor is None or not self.may_tell:
            return
        signal = SIGNALS.get(state, OTHER_SIGNAL)
        if signal is None:
            return
        hit = processor.hit if state is RunState.DEBUG else None
        if hit is None:
            self.general = processor
            self.tell(b"T%02xthread:%b;" % (signal, self.name(processor)))
        else:
            processor.hit = None
            what = WATCHPOINTS[hit.kind].reply.encode()
            self.tell(b"T%02xthread:%b;%b:%x;" % (_TRAP, self.name(processor), what, hit.address))
        self.awaits = False
        processor.steps = False

    @property
    def may_tell(self) -> bool:
        """Whether a stop, or the end, is to be told now."""
        return self.awaits or not self.face.behaviour.replies_when_awaited

    def reset(self) -> None:
        """The machine was reset."""
        for processor in self.threads():
            processor.reset()

    # Memory

    def read(self, address: int, length: int) -> bytes | None:
        """What is in memory; None where something of it cannot be read."""
        found = b""
        for start, size in pages(address, length):
            if not self._reaches(start, size):
                # What was read so far, and what nothing reads as, is in the buffer by then.
                self.keep(found + bytes(0 if self._is_lost else size))
                return None
            found += self.memory.read(start, size)
        self.keep(found)
        return found

    def write(self, address: int, data: bytes) -> bool:
        """Write to memory; False where that fails."""
        self.keep(data)
        for start, size in pages(address, len(data)):
            if self._is_lost:
                return False
            if not self._reaches(start, size):
                if self.face.behaviour.unmapped_writes_refused:
                    return False
            elif not self.memory.write(start, data[start - address : start - address + size]):
                return False
        return True

    @property
    def _is_lost(self) -> bool:
        """Whether no address leads anywhere."""
        return self.general is not None and self.general.registers.pages and not self.physical

    def _reaches(self, address: int, length: int) -> bool:
        """Whether these addresses can be read: in 64-bit code all, as if pages were mapped wherever one looks."""
        if self._is_lost:
            return False
        is_flat = self.physical or (self.general is not None and self.general.registers.wide)
        return is_flat or self.memory.is_mapped(address, length)

    def keep(self, data: bytes) -> None:
        """Note what a packet brought, or what was read for its answer."""
        self.scratch[: len(data)] = data


def _nobody(content: bytes) -> None:
    """Where packets go that nobody receives."""


def _nothing() -> None:
    """Where nobody can end the machine."""
