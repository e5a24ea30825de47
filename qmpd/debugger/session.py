"""A debugger's connection, and the stub that a machine gets when the first device for one is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.chardev.device import Chardev
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.debugger.memory import Memory
from qmpd.debugger.stub import Stub
from qmpd.debugger.target import Target
from qmpd.hardware.memory import MemoryLayout
from qmpd.human.monitor import execute_at_once
from qmpd.monitor.commands.machine import cpus, has_cpus
from qmpd.monitor.session import Session

if TYPE_CHECKING:
    from qmpd.debugger.memory import Range
    from qmpd.monitor.session import SessionDispatcher
    from qmpd.qapi.debugger import DebuggerFace
    from qmpd.system.system import System

LABEL = "gdb"
"""The id of the character device that debuggers connect to."""

_MONITOR_LABEL = "#chr000"
"""The id of the one behind which the human monitor's lines of debuggers are executed; QEMU makes one up."""

_FOUR_GIBIBYTES = 4 << 30


class DebuggerSession(Session):
    """A debugger that is connected.  In another process it would meet a stub that knows nothing of it."""

    lives_on = False
    is_monitor = False
    __slots__ = ("_stub",)

    def __init__(self, dispatcher: SessionDispatcher, label: str, stub: Stub) -> None:
        super().__init__(dispatcher, label=label, pretty=False)
        self._stub = stub

    def deliver(self, data: bytes) -> None:
        """Owe `data` to the debugger, as long as it is connected."""
        if not self.ended:
            self.send(data)

    def receive(self, data: bytes) -> None:
        """Take bytes; what they ask for is done at once."""
        self._stub.receive(data)

    def fail(self, text: str) -> None:
        """Nothing that a debugger would understand."""

    def receive_plain(self, data: bytes) -> bool:
        """Nothing of it is taken: packets are read in small slices."""
        return False


def stub_of(system: System) -> Stub | None:
    """What debuggers of this machine talk to; None where there is nothing for them."""
    stub = system.machine.debugger
    return stub if isinstance(stub, Stub) else None


def make_stub(system: System) -> Stub:
    """The machine's stub, the same each time.

    :raise Refusal: the machine has no CPU, or nothing is known of how its release looks to a debugger.
    """
    if not has_cpus(system):
        raise Refusal("debugger-without-cpu")
    found = stub_of(system)
    if found is None:
        face = system.release.debugger
        if face is None:
            raise NotModelled(f"debuggers of release {system.release.name}: qmpd capture finds out what they see")
        found = system.machine.debugger = Stub(_target(system, face))
    return found


def show_monitor(system: System) -> None:
    """Have the character device of the stub's own monitor among the others, as soon as there is a stub."""
    if all(each.label != _MONITOR_LABEL for each in system.chardevs):
        system.chardevs.append(Chardev(_MONITOR_LABEL, "gdb", listening=False, yankable=False))


def open_debugger(system: System, dispatcher: SessionDispatcher, label: str) -> Session:
    """A debugger has connected: a machine that runs stops."""
    session = DebuggerSession(dispatcher, label, stub := make_stub(system))
    dispatcher.add(session)
    stub.connected(session.deliver)
    return session


def _target(system: System, face: DebuggerFace) -> Target:
    return Target(
        system.machine,
        face,
        Memory(_mapped(system, face), system.settings.memory, system.memory_pages),
        lambda: cpus(system),
        lambda index: _version(system, index),
        lambda line: execute_at_once(system, line),
    )


def _mapped(system: System, face: DebuggerFace) -> list[Range]:
    """Where the machine has memory, or something else that can be read."""
    try:
        layout = system.inventory.layout
    except LookupError:
        layout = MemoryLayout(system.settings.memory, None)
    board = system.settings.board
    above = [(_FOUR_GIBIBYTES, _FOUR_GIBIBYTES + layout.above)] if layout.above else []
    others = face.mapped.get(board.family) or face.mapped.get(board.reference, ())
    return [(0, layout.below), *above, *others]


def _version(system: System, index: int) -> int | None:
    """What a CPU says of its family, model and stepping, as cpuid does (Intel's manual, volume 2, CPUID)."""
    try:
        node = system.inventory.tree.find(cpus(system)[index])
    except LookupError:
        return None
    if node is None or any(node.property(name) is None for name in ("family", "model", "stepping")):
        return None
    generation, model, stepping = (node.value(name) for name in ("family", "model", "stepping"))
    first = min(generation, 15)
    rest = generation - first
    return int(rest << 20 | (model >> 4) << 16 | first << 8 | (model & 15) << 4 | stepping)
