"""What a debugger sees of a release's machines, as `debugger.json` in the release's folder has it.

`{"behaviour": {field: {"value", "about"}}, "features": {name: text}, "registers": [register, ...], "mapped": {board:
[[first, end], ...]}}`: how the program's stub for debuggers behaves, the descriptions of its target
(`qXfer:features:read`), the registers of a CPU in the order of their numbers, and where the boards have something that
can be read beside their memory.  `qmpd capture` asks a running program for all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "debugger.json"

ABOUT: dict[str, str] = {
    "packet_size": "the most bytes of a packet, as qSupported tells it",
    "description_first": "single registers (p, P) are known once the target's description was read; false: always",
    "halted_by_core": "? and vAttach tell the CPU as core:NUMBER; false: as thread:ID",
    "replies_when_awaited": "a stop is told where the debugger's last packet awaits one; false: each stop is",
    "unmapped_writes_refused": "a write where no memory is fails; false: it is answered OK and lost",
    "vectors_written_swapped": "P and G write the halves of a vector register the wrong way round",
    "step_flags_checked": "Qqemu.sstep refuses flags that there are not",
    "stack_turns": "st0 to st7 are read by the top of the stack that fstat says; false: by their numbers",
    "backward_answered_twice": "b is refused by E22 and then by an empty packet; false: by E22",
    "halt_clears_all": "? removes the breakpoints of all CPUs; false: those of the CPU that it tells of",
    "kill": "what k and vKill do: 'exit' ends the process without a word, 'told' says W00 first, 'shutdown' asks for a"
    " shutdown",
    "exit_status_told": "W tells the exit status at the end; false: 0 whatever it is",
    "end_stops": "the end of a machine that runs is told as its stop, too (W00, then T03)",
}


class DebuggerBehaviour:
    """How a release's stub behaves; what each field changes stands in `ABOUT`.  The defaults are release 10.0's."""

    packet_size: int = 4096
    description_first: bool = False
    halted_by_core: bool = False
    replies_when_awaited: bool = True
    unmapped_writes_refused: bool = True
    vectors_written_swapped: bool = False
    step_flags_checked: bool = True
    stack_turns: bool = True
    backward_answered_twice: bool = True
    halt_clears_all: bool = False
    kill: str = "shutdown"
    exit_status_told: bool = True
    end_stops: bool = False

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)

    @classmethod
    def from_json(cls, members: Mapping[str, Mapping[str, object]]) -> DebuggerBehaviour:
        """Read `{field: {"value": ...}}`.

        :raise ValueError: a field has no value, an unknown name, or a value of another type.
        """
        known = cls.__annotations__
        values: dict[str, object] = {}
        for name, member in members.items():
            if name not in known or type(member.get("value")).__name__ != known[name]:
                raise ValueError(f"no such behaviour of a debugger's, or no value of its type: '{name}'")
            values[name] = member["value"]
        return cls(**values)


class Register(NamedTuple):
    """One register of a CPU: its name, its bytes after a reset, and which of its bits can be written.

    The bits of `always` are set whatever is written.  Numbers are little endian, as on the wire.
    """

    name: str
    value: bytes
    writable: int
    always: int = 0

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.value)


class DebuggerFace(NamedTuple):
    """All that `debugger.json` tells."""

    behaviour: DebuggerBehaviour
    features: Mapping[str, str]
    registers: tuple[Register, ...]
    mapped: Mapping[str, tuple[tuple[int, int], ...]]

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> DebuggerFace:
        """Read the file's content.

        :raise ValueError, KeyError, TypeError: it is not as it should be.
        """
        registers = tuple(
            Register(
                each["name"],
                bytes.fromhex(each["value"]),
                number(each["writable"]),
                number(each.get("always", "")),
            )
            for each in members["registers"]
        )
        mapped = {
            board: tuple((int(first), int(end)) for first, end in ranges) for board, ranges in members["mapped"].items()
        }
        return cls(DebuggerBehaviour.from_json(members["behaviour"]), dict(members["features"]), registers, mapped)


def number(digits: str) -> int:
    """The number that these bytes, little endian and in hexadecimal digits, are."""
    return int.from_bytes(bytes.fromhex(digits), "little")
