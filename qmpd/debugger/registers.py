"""The registers of one CPU, as a debugger reads and writes them (QEMU's target/i386/gdbstub.c).

No instruction is executed: after a reset they are as the real program shows them, and from then on they are what the
debugger, a step or the puppeteer makes of them.  A step is one guess, since all memory that nobody has written is zero:
an instruction made of zeros is two bytes long, and changes nothing that is kept here but the program counter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qmpd.qapi.debugger import DebuggerBehaviour, Register

RESET_CODE_BASE = 0xFFFF0000
"""Where the code segment begins after a reset, whatever its selector says (Intel's manual, volume 3, 9.1)."""

STEP = 2
"""The bytes of an instruction that is all zeros: `add %al,(%bx,%si)`, or `add %al,(%rax)`."""

# What 32-bit code has 4 bytes of: that is what G and P take there, and extend by the sign, while g and p show 8.
_NARROW = frozenset({"fs_base", "gs_base", "k_gs_base", "cr0", "cr2", "cr3", "cr4", "cr8", "efer"})
_NARROW_SIZE = 4
_SEGMENTS = frozenset({"cs", "ss", "ds", "es", "fs", "gs"})
_BASES = {"fs": "fs_base", "gs": "gs_base"}
_STACK = tuple(f"st{index}" for index in range(8))
_VECTOR_SIZE = 16
_VERSION = "rdx"
# The bits of cr0, cr4 and efer that take a CPU into 64-bit code.
_PROTECTED, _PAGING = 1 << 0, 1 << 31
_PHYSICAL_EXTENSION = 1 << 5
_VIRTUAL_8086 = 1 << 17
_LONG_ENABLED, _LONG_ACTIVE = 1 << 8, 1 << 10
_CODE, _DATA = 0x10, 0x18
_32_BITS, _64_BITS = (1 << 32) - 1, (1 << 64) - 1


class Registers:
    """What the registers of a CPU hold.

    `version` is what the CPU says of itself, which it has in a register after a reset; None where it is not known, and
    then it is the default CPU's.
    """

    __slots__ = ("_behaviour", "_code_base", "_numbers", "_shapes", "_values", "_version", "wide")

    def __init__(self, shapes: Sequence[Register], behaviour: DebuggerBehaviour, version: int | None = None) -> None:
        self._shapes = shapes
        self._behaviour = behaviour
        self._version = version
        self._numbers = {shape.name: number for number, shape in enumerate(shapes)}
        self._values: list[int] = []
        self._code_base = 0
        # Whether 64-bit code runs.
        self.wide = False
        self.reset()

    def __len__(self) -> int:
        return len(self._shapes)

    def reset(self) -> None:
        """Be as after a reset."""
        self._values = [int.from_bytes(shape.value, "little") for shape in self._shapes]
        if self._version is not None and _VERSION in self._numbers:
            self._put(_VERSION, self._version)
        self._code_base = RESET_CODE_BASE
        self.wide = False

    def _get(self, name: str) -> int:
        number = self._numbers.get(name)
        return 0 if number is None else self._values[number]

    def _put(self, name: str, value: int) -> None:
        number = self._numbers.get(name)
        if number is not None:
            self._values[number] = value

    # As packets have them

    def read(self, number: int) -> bytes:
        """The bytes of a register; none where there is no such register."""
        if not 0 <= number < len(self._shapes):
            return b""
        shape = self._shapes[number]
        if shape.name in _STACK and self._behaviour.stack_turns:
            number = self._numbers[_STACK[(_STACK.index(shape.name) + (self._get("fstat") >> 11)) % len(_STACK)]]
        return self._values[number].to_bytes(shape.size, "little")

    def read_all(self) -> bytes:
        """The bytes of all registers, in their order."""
        return b"".join(self.read(number) for number in range(len(self._shapes)))

    def width(self, number: int) -> int:
        """How many bytes a write of this register takes; 0 where there is no such register."""
        if not 0 <= number < len(self._shapes):
            return 0
        shape = self._shapes[number]
        return _NARROW_SIZE if shape.name in _NARROW and not self.wide else shape.size

    def write(self, number: int, data: bytes) -> None:
        """Write a register; `data` has at least as many bytes as `width` says."""
        if not 0 <= number < len(self._shapes):
            return
        shape = self._shapes[number]
        width = self.width(number)
        value = int.from_bytes(data[:width], "little", signed=width < shape.size)
        if shape.size == _VECTOR_SIZE and self._behaviour.vectors_written_swapped:
            value = (value & _64_BITS) << 64 | value >> 64
        writable = (1 << 8 * shape.size) - 1 if self.wide and shape.size == 8 else shape.writable
        value = value & writable | shape.always
        if shape.name == "cr0":
            value = self._change_paging(value)
        elif shape.name in _SEGMENTS and not self._load(shape.name, value):
            return
        self._values[number] = value

    def _load(self, name: str, selector: int) -> bool:
        """Choose a segment; False where that cannot be.

        In protected mode it is one of a table that is all zeros, so it begins at 0, if the table can be read.
        """
        is_real = not self._get("cr0") & _PROTECTED or self._get("eflags") & _VIRTUAL_8086
        if self.pages and not is_real:
            return False
        base = selector << 4 if is_real else 0
        if name == "cs":
            self._code_base = base
        elif name in _BASES:
            self._put(_BASES[name], base)
        return True

    @property
    def pages(self) -> bool:
        """Whether addresses are looked up in tables of pages, which are all zeros: nothing is mapped then.

        The puppeteer's 64-bit code has such tables, and they are right ones.
        """
        return not self.wide and bool(self._get("cr0") & _PAGING)

    def _change_paging(self, value: int) -> int:
        """The value that cr0 gets: with paging 64-bit mode begins or ends, where that is enabled."""
        extended = self._get("efer")
        had, has = self._get("cr0") & _PAGING, value & _PAGING
        if has and not had and extended & _LONG_ENABLED:
            if not self._get("cr4") & _PHYSICAL_EXTENSION:
                return self._get("cr0")
            self._put("efer", extended | _LONG_ACTIVE)
        elif had and not has:
            self._put("efer", extended & ~_LONG_ACTIVE)
        return value

    # The program counter

    @property
    def address(self) -> int:
        """The address of the instruction that comes next."""
        where = self._get("rip") + (0 if self.wide else self._code_base)
        return where & (_64_BITS if self.wide else _32_BITS)

    def jump(self, counter: int) -> None:
        """Set the program counter, as `c` and `s` with an address do."""
        self._put("rip", counter & (_64_BITS if self.wide else _32_BITS))

    def arrive(self, address: int) -> None:
        """Come to an address, in 64-bit code where it takes that, with the segments beginning at 0."""
        self._code_base = 0
        if address > _32_BITS and not self.wide:
            self.wide = True
            self._put("cr0", self._get("cr0") | _PROTECTED | _PAGING)
            self._put("cr4", self._get("cr4") | _PHYSICAL_EXTENSION)
            self._put("efer", self._get("efer") | _LONG_ENABLED | _LONG_ACTIVE)
            self._put("cs", _CODE)
            self._put("ss", _DATA)
        self.jump(address)

    def step(self) -> None:
        """Execute the one instruction that there is."""
        counter = self._get("rip") + STEP
        self.jump(counter if self._get("cr0") & _PROTECTED else counter & 0xFFFF)
