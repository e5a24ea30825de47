"""The packets that a debugger sends: which there are, and what each does.

The tables are searched in their order, each entry by the beginning of the packet or by all of it.  What is in no table,
or has arguments that cannot be read, is answered by an empty packet.  Where an answer has to be given for a CPU while
the debugger has none, which ends the real program, it is E22.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.debugger import contents
from qmpd.debugger.arguments import ALL, Malformed, Thread, read_number, read_thread
from qmpd.debugger.packets import escape
from qmpd.debugger.table import (
    INVALID,
    NONE,
    ODD,
    OK,
    UNKNOWN,
    Entry,
    from_hex,
    number_at,
    run,
    text_at,
    thread_at,
    with_processor,
)
from qmpd.debugger.target import PROCESS

if TYPE_CHECKING:
    from qmpd.debugger.target import Processor, Target

    Arguments = list[int | str | Thread]

_STEP_FLAGS = {"ENABLE": 1, "NOIRQ": 2, "NOTIMER": 4}
_HALT_SIGNAL = 5
_FIRST = "target.xml"


def execute(target: Target, content: str) -> None:
    """Do what a packet asks for, and answer."""
    if not run(target, content, COMMANDS):
        target.tell(UNKNOWN)


# Attaching and letting go


def _extended(target: Target, arguments: Arguments) -> None:
    target.tell(OK)


def _halted(target: Target, arguments: Arguments) -> None:
    """Why it stands still.  A debugger asks that first, and so its old breakpoints go."""
    processor = target.continued
    if processor is None:
        target.tell(INVALID)
        return
    _tell_halted(target, processor)
    for each in target.threads() if target.face.behaviour.halt_clears_all else (processor,):
        each.breakpoints.clear()


def _tell_halted(target: Target, processor: Processor) -> None:
    if target.face.behaviour.halted_by_core:
        target.tell(b"T%02xcore:%02x;" % (_HALT_SIGNAL, processor.thread))
    else:
        target.tell(b"T%02xthread:%b;" % (_HALT_SIGNAL, target.name(processor)))
    target.awaits = False


def _attach(target: Target, arguments: Arguments) -> None:
    if not arguments or number_at(arguments, 0) not in (0, PROCESS):
        target.tell(INVALID)
        return
    target.attach()
    assert target.general is not None
    _tell_halted(target, target.general)


def _detach(target: Target, arguments: Arguments) -> None:
    process = PROCESS
    if target.multiprocess:
        process = number_at(arguments, 0) if arguments else -1
    if process not in (0, PROCESS):
        target.tell(INVALID)
        return
    target.detach()
    # QEMU goes on only where the process was named by its number.
    if process:
        target.continued = target.general = None
        target.resume()
    target.tell(OK)


# Execution


def _continue(target: Target, arguments: Arguments) -> None:
    _jump(target, arguments)
    target.resume()


def _step(target: Target, arguments: Arguments) -> None:
    processor = target.continued
    if processor is None:
        target.tell(INVALID)
        return
    _jump(target, arguments)
    processor.steps = True
    target.resume()


def _jump(target: Target, arguments: Arguments) -> None:
    if arguments and target.continued is not None:
        target.continued.registers.jump(number_at(arguments, 0))


def _continue_with_signal(target: Target, arguments: Arguments) -> None:
    """A machine takes no signals: it goes on."""
    target.resume()


def _backward(target: Target, arguments: Arguments) -> None:
    """No execution is recorded, so none can be gone back."""
    target.tell(INVALID)
    if target.face.behaviour.backward_answered_twice and (not arguments or text_at(arguments, 0) not in "sc"):
        target.tell(UNKNOWN)


def _file_answer(target: Target, arguments: Arguments) -> None:
    """The answer to a request for the debugger's own files, of which there is none: the machine goes on."""
    if len(arguments) == 3 and text_at(arguments, 2) == "C":
        target.tell(b"T02")
    else:
        target.resume()


def _ways_to_continue(target: Target, arguments: Arguments) -> None:
    target.tell(b"vCont;c;C;s;S")


def _continue_each(target: Target, arguments: Arguments) -> None:
    if not arguments:
        return
    try:
        actions = _actions(target, text_at(arguments, 0))
    except Malformed:
        target.tell(UNKNOWN)
        return
    except ValueError:
        target.tell(INVALID)
        return
    chosen = [processor for processor in target.threads() if processor.index in actions]
    target.resume(chosen, {index for index, action in actions.items() if action == "s"})


def _actions(target: Target, text: str) -> dict[int, str]:
    """What each CPU is to do, `c` or `s`, by its index; the first action that names it counts.

    :raise Malformed: there is no such action.
    :raise ValueError: there is no such thread, or no such signal.
    """
    actions: dict[int, str] = {}
    at = 0
    while at < len(text):
        action = text[at + 1 : at + 2]
        if text[at] != ";" or action not in tuple("cCsS"):
            raise Malformed
        at += 2
        if action.isupper():
            at = _skip_signal(text, at)
        if at == len(text) or text[at] == ";":
            named = target.threads() if target.attached else []
        elif text[at] == ":":
            named, at = _named(target, text, at + 1)
        else:
            raise Malformed
        for processor in named:
            actions.setdefault(processor.index, action.lower())
    return actions


def _skip_signal(text: str, at: int) -> int:
    try:
        return read_number(text, at)[1]
    except Malformed:
        raise ValueError from None


def _named(target: Target, text: str, at: int) -> tuple[list[Processor], int]:
    """The CPUs that an action is for, and where their name ends.

    :raise ValueError: there are none.
    """
    wanted, at = read_thread(text, at)
    if not wanted.readable:
        raise ValueError
    if not wanted.is_one:
        if wanted.process != ALL and (wanted.process not in (0, PROCESS) or not target.attached):
            raise ValueError
        return (target.threads() if target.attached else []), at
    found = target.find(wanted)
    if found is None:
        raise ValueError
    return [found], at


# Threads


def _choose(target: Target, arguments: Arguments) -> None:
    if len(arguments) != 2 or not thread_at(arguments, 1).readable:
        target.tell(INVALID)
        return
    if not thread_at(arguments, 1).is_one:
        target.tell(OK)
        return
    found, operation = target.find(thread_at(arguments, 1)), text_at(arguments, 0)
    if found is None or operation not in "cg":
        target.tell(INVALID)
        return
    if operation == "c":
        target.continued = found
    else:
        target.general = found
    target.tell(OK)


def _is_alive(target: Target, arguments: Arguments) -> None:
    named = bool(arguments) and thread_at(arguments, 0).readable
    target.tell(OK if named and target.find(thread_at(arguments, 0)) is not None else INVALID)


def _current_thread(target: Target, processor: Processor, arguments: Arguments) -> None:
    target.tell(b"QC" + target.name(target.threads()[0]))


def _first_thread(target: Target, arguments: Arguments) -> None:
    target.unlisted = target.threads() if target.attached else []
    _next_thread(target, arguments)


def _next_thread(target: Target, arguments: Arguments) -> None:
    if target.unlisted:
        target.tell(b"m" + target.name(target.unlisted.pop(0)))
    else:
        target.tell(b"l")


def _about_thread(target: Target, arguments: Arguments) -> None:
    if not arguments or not thread_at(arguments, 0).readable:
        target.tell(INVALID)
        return
    found = target.find(thread_at(arguments, 0))
    if found is not None:
        state = "halted " if target.is_halted(found) else "running"
        target.tell(f"CPU#{found.index} [{state}]".encode().hex().encode())


# Queries and settings


def _query(target: Target, arguments: Arguments) -> None:
    if arguments and not any(run(target, text_at(arguments, 0), table) for table in (_STEPPING, _QUERIES)):
        target.tell(UNKNOWN)


def _setting(target: Target, arguments: Arguments) -> None:
    if arguments and not any(run(target, text_at(arguments, 0), table) for table in (_STEPPING, _SETTINGS)):
        target.tell(UNKNOWN)


def _of_all(target: Target, arguments: Arguments) -> None:
    if arguments and not run(target, text_at(arguments, 0), _ALL_THREADS):
        target.tell(UNKNOWN)


def _supported(target: Target, arguments: Arguments) -> None:
    if arguments and "multiprocess+" in text_at(arguments, 0):
        target.multiprocess = True
    described = b";qXfer:features:read+" if target.face.features else b""
    size = target.face.behaviour.packet_size
    target.tell(b"PacketSize=%x%b;vContSupported+;multiprocess+" % (size, described))


def _describe(target: Target, arguments: Arguments) -> None:
    """A part of one of the texts that describe the target; a beginning of the first one's name will do."""
    if len(arguments) < 3:
        target.tell(INVALID)
        return
    target.described = True
    name = text_at(arguments, 0).partition(":")[0]
    whole = target.face.features.get(_FIRST if _FIRST.startswith(name) else name)
    start, length = number_at(arguments, 1), number_at(arguments, 2)
    content = b"" if whole is None else whole.encode()
    if whole is None or start > len(content):
        target.tell(NONE)
        return
    length = min(length, (target.face.behaviour.packet_size - 5) // 2)
    part = content[start : start + length]
    target.tell((b"m" if length < len(content) - start else b"l") + escape(part))


def _attached(target: Target, arguments: Arguments) -> None:
    target.tell(b"1")


def _monitor(target: Target, arguments: Arguments) -> None:
    """Execute a line of the human monitor; each line that it prints is a packet."""
    if not arguments:
        target.tell(INVALID)
        return
    digits = text_at(arguments, 0)
    if len(digits) % 2:
        target.tell(ODD)
        return
    line = from_hex(digits)
    target.keep(line + b"\0")
    said = target.monitor(line.partition(b"\0")[0].decode("utf-8", "replace"))
    for each in said.splitlines():
        target.tell(b"O" + f"{each}\r\n".encode().hex().encode())
    target.tell(OK)


def _own_queries(target: Target, arguments: Arguments) -> None:
    target.tell(b"sstepbits;sstep;PhyMemMode")


def _step_bits(target: Target, arguments: Arguments) -> None:
    target.tell(",".join(f"{name}={flag:x}" for name, flag in _STEP_FLAGS.items()).encode())


def _step_flags(target: Target, arguments: Arguments) -> None:
    target.tell(b"0x%x" % target.step_flags)


def _set_step_flags(target: Target, arguments: Arguments) -> None:
    if not arguments:
        return
    flags = number_at(arguments, 0)
    if target.face.behaviour.step_flags_checked and flags & ~sum(_STEP_FLAGS.values()):
        target.tell(INVALID)
        return
    target.step_flags = flags & 0xFFFFFFFF
    target.tell(OK)


def _is_physical(target: Target, arguments: Arguments) -> None:
    target.tell(b"%d" % target.physical)


def _set_physical(target: Target, arguments: Arguments) -> None:
    if not arguments:
        target.tell(INVALID)
        return
    target.physical = bool(number_at(arguments, 0))
    target.tell(OK)


def _kill(target: Target, arguments: Arguments) -> None:
    target.kill()


def _kill_process(target: Target, arguments: Arguments) -> None:
    target.tell(OK)
    target.kill()


_STEPPING = (
    Entry("qemu.sstepbits", _step_bits, whole=True),
    Entry("qemu.sstep", _step_flags, whole=True),
    Entry("qemu.sstep=", _set_step_flags, "n0"),
)

_QUERIES = (
    Entry("C", with_processor(_current_thread), whole=True),
    Entry("sThreadInfo", _next_thread, whole=True),
    Entry("fThreadInfo", _first_thread, whole=True),
    Entry("ThreadExtraInfo,", _about_thread, "t0"),
    Entry("Rcmd,", _monitor, "s0"),
    Entry("Supported:", _supported, "s0"),
    Entry("Supported", _supported, "s0", whole=True),
    Entry("Xfer:features:read:", with_processor(lambda target, _, arguments: _describe(target, arguments)), "s:n,n0"),
    Entry("Attached:", _attached),
    Entry("Attached", _attached, whole=True),
    Entry("qemu.Supported", _own_queries, whole=True),
    Entry("qemu.PhyMemMode", _is_physical, whole=True),
)

_SETTINGS = (
    Entry("qemu.sstep:", _set_step_flags, "n0"),
    Entry("qemu.PhyMemMode:", _set_physical, "n0"),
)

_ALL_THREADS = (
    Entry("Cont?", _ways_to_continue),
    Entry("Cont", _continue_each, "s0", awaits=True),
    Entry("Attach;", _attach, "n0", awaits=True),
    Entry("Kill;", _kill_process),
)

COMMANDS = (
    Entry("!", _extended),
    Entry("?", _halted, awaits=True),
    Entry("c", _continue, "n0", awaits=True),
    Entry("C", _continue_with_signal, "n0", awaits=True),
    Entry("v", _of_all, "s0"),
    Entry("k", _kill),
    Entry("D", _detach, "-.n0"),
    Entry("s", _step, "n0", awaits=True),
    Entry("b", _backward, "c0", awaits=True),
    Entry("F", _file_answer, "n,n,c0"),
    Entry("g", with_processor(contents.read_registers)),
    Entry("G", with_processor(contents.write_registers), "s0"),
    Entry("m", with_processor(contents.read_memory), "n,n0"),
    Entry("M", with_processor(contents.write_memory), "n,n:s0"),
    Entry("p", with_processor(contents.read_register), "n0"),
    Entry("P", with_processor(contents.write_register), "n?s0"),
    Entry("Z", contents.insert, "n?n?n0"),
    Entry("z", contents.remove, "n?n?n0"),
    Entry("H", _choose, "c.t0"),
    Entry("T", _is_alive, "t0"),
    Entry("q", _query, "s0"),
    Entry("Q", _setting, "s0"),
)
"""The packets, by how they begin."""
