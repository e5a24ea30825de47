"""QAPI module `dump`, and `memsave` and `pmemsave` of `machine`: the guest's memory in files."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from qmpd.block.content import text_of
from qmpd.block.images.errors import ImageError
from qmpd.common.refusals import Refusal
from qmpd.guest.phases import GuestPhase
from qmpd.machine.run_state import RunState
from qmpd.monitor.commands.machine import cpus
from qmpd.monitor.registry import command
from qmpd.monitor.results import EMPTY
from qmpd.system.deferred import Deferred
from qmpd.system.dumps import elf, kdump
from qmpd.system.dumps.dump import ELF, KDUMP
from qmpd.system.dumps.memory import dumped, of
from qmpd.system.dumps.plan import Nowhere, Piece, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.block.executor import Outcome
    from qmpd.monitor.client import Client
    from qmpd.monitor.entry import Arguments
    from qmpd.system.dumps.memory import GuestMemory
    from qmpd.system.dumps.plan import Output
    from qmpd.system.system import System

_UNAVAILABLE = {"kdump-lzo": "kdump-lzo", "kdump-snappy": "kdump-snappy", "kdump-raw-lzo": "kdump-lzo",
                "kdump-raw-snappy": "kdump-snappy"}  # fmt: skip
_WINDOWS = "win-dmp"
# Of new files.
_MODE, _PLAIN_MODE = 0o400, 0o666
_SIGN = 1 << 63
_ALL = (1 << 64) - 1


@command("query-dump")
def query_dump(system: System, session: Client, arguments: Arguments) -> object:
    return system.dumps.query()


@command("query-dump-guest-memory-capability")
def query_capability(system: System, session: Client, arguments: Arguments) -> object:
    return {"formats": system.release.behaviour.dump_formats.split(",")}


@command("dump-guest-memory")
def dump_guest_memory(system: System, session: Client, arguments: Arguments) -> object:
    _check(system, arguments)
    detached = bool(arguments.get("detach"))
    failures: list[Refusal | str] = []

    def reply() -> object:
        if failures and not (detached and isinstance(failures[0], str)):
            failure = failures[0]
            raise failure if isinstance(failure, Refusal) else Refusal("dump-failed", why=failure)
        return EMPTY

    later = Deferred(reply)

    def ended(failure: str | None) -> None:
        if failure is not None:
            failures.append(failure)
        if not detached:
            later.ready()

    def opened(outcome: Outcome) -> None:
        if outcome.error is not None:
            error = outcome.error
            reason = text_of(error)
            failures.append(Refusal("dump-file", path=_name(arguments), reason=reason))
            later.ready()
            return
        try:
            _begin(system, arguments, outcome.value, ended)
        except Refusal as refusal:
            outcome.value.close()
            failures.append(refusal)
        if failures or detached:
            later.ready()

    system.dumps.executor.do(_opener(system, session, arguments), opened)
    return later


def _check(system: System, arguments: Arguments) -> None:
    """Refuse what can be seen to be wrong, in QEMU's order."""
    if system.machine.state is RunState.INMIGRATE:
        raise Refusal("dump-incoming")
    system.dumps.check_free()
    if system.is_migrating and system.release.migration.course.shares:
        raise Refusal("dump-migrating")
    kind = cast("str", arguments.get("format", "elf"))
    begin, length = arguments.get("begin"), arguments.get("length")
    if kind != "elf" and (arguments["paging"] or begin is not None or length is not None):
        raise Refusal("dump-filter")
    if begin is not None and length is None:
        raise Refusal("parameter-missing", name="length")
    if length is not None and begin is None:
        raise Refusal("parameter-missing", name="begin")
    if kind in _UNAVAILABLE:
        raise Refusal("dump-unavailable", format=_UNAVAILABLE[kind])
    if kind == _WINDOWS and system.release.behaviour.windows_dump_checked:
        raise Refusal("dump-windows")
    if cast("str", arguments["protocol"]).partition(":")[1] != ":" or _scheme(arguments) not in ("fd", "file"):
        raise Refusal("dump-protocol")


def _scheme(arguments: Arguments) -> str:
    return cast("str", arguments["protocol"]).partition(":")[0]


def _name(arguments: Arguments) -> str:
    return cast("str", arguments["protocol"]).partition(":")[2]


def _opener(system: System, session: Client, arguments: Arguments) -> Callable[[], Output]:
    """What opens the file, in a thread.

    :raise Refusal: there is no descriptor of this name.
    """
    host, name = system.host, _name(arguments)
    if _scheme(arguments) == "fd":
        number = None if system.descriptors is None else system.descriptors.take(_label(session), name)
        if number is None:
            raise Refusal("descriptor-name-missing", name=name)
        return Nowhere if host is None else lambda: host.output_to(number)
    return Nowhere if host is None else lambda: host.open_output(name, _MODE)


def _label(session: Client | None) -> str:
    """Whose files may be meant: a line of the human monitor that stands alone has none."""
    return "" if session is None else session.label


def _begin(system: System, arguments: Arguments, output: Output, then: Callable[[str | None], None]) -> None:
    """Begin the dump, now that there is a file; the vCPUs stand still from now on.

    :raise Refusal: there is nothing to be dumped.
    """
    dumps = system.dumps
    dumps.check_free()
    resume = dumps.stop()
    try:
        memory = _wanted(system, arguments)
        total = _total(system, memory, arguments)
        if not total:
            raise Refusal("dump-no-memory")
    except Refusal:
        dumps.give_up(resume=resume)
        raise
    kind, count = cast("str", arguments.get("format", "elf")), system.settings.topology.cpus
    if kind == "elf":
        guest = system.guest
        long_mode = guest is not None and guest.phase is GuestPhase.RUNNING
        sections = system.release.behaviour.dumps_have_sections
        plan, pace = elf.plan(memory, count, long_mode=long_mode, has_sections=sections), ELF
    elif kind == _WINDOWS:
        plan, pace = Plan(_no_windows(), 0), KDUMP
    else:
        plan, pace = kdump.plan(memory, count, flat="raw" not in kind), KDUMP
    dumps.begin(plan, output, total, pace, resume=resume, then=then, size=memory.size)


def _no_windows() -> Iterator[Piece]:
    yield from ()
    raise ImageError("win-dump: invalid vmcoreinfo note size")


def _wanted(system: System, arguments: Arguments) -> GuestMemory:
    memory = dumped(system)
    if "begin" not in arguments:
        return memory
    begin, length = cast("int", arguments["begin"]), cast("int", arguments["length"])
    if not length:
        raise Refusal("dump-length-zero")
    if (begin < 0 or length < 0) and system.release.behaviour.dump_begin_checked:
        raise Refusal("dump-begin")
    return memory.part(begin, length)


def _total(system: System, memory: GuestMemory, arguments: Arguments) -> int:
    """How many bytes are told to be dumped: of a part whose address is negative it is not what there is."""
    begin = cast("int", arguments.get("begin", 0))
    return memory.size if begin >= 0 else dumped(system).touched(begin, cast("int", arguments["length"]))


# Plain copies


@command("memsave")
def memsave(system: System, session: Client, arguments: Arguments) -> object:
    _check_access(system)
    if cast("int", arguments.get("cpu-index", 0)) not in cpus(system):
        raise Refusal("cpu-number", name="cpu-index")
    return _saved(system, arguments, of(system), mapped=True)


@command("pmemsave")
def pmemsave(system: System, session: Client, arguments: Arguments) -> object:
    _check_access(system)
    return _saved(system, arguments, of(system), mapped=False)


def _check_access(system: System) -> None:
    if system.machine.state is RunState.INMIGRATE and system.release.behaviour.memory_kept_from_incoming:
        raise Refusal("memory-incoming")


def _saved(system: System, arguments: Arguments, memory: GuestMemory, *, mapped: bool) -> Deferred:
    """The reply once a part of the memory is in a file; `mapped`: only what is there can be copied."""
    address, size = (cast("int", arguments[name]) & _ALL for name in ("val", "size"))
    path = cast("str", arguments["filename"])
    host = system.host
    failures: list[Refusal] = []

    def reply() -> object:
        if failures:
            raise failures[0]
        return EMPTY

    later = Deferred(reply)
    wrong = size >= _SIGN or (mapped and size > 0 and not memory.has(address, size))

    def work() -> None:
        output: Output = Nowhere() if host is None else host.open_output(path, _PLAIN_MODE)
        try:
            if not wrong:
                for place, data in memory.written(address, address + size):
                    output.write(place - address, data)
                output.end(size)
        finally:
            output.close()

    def done(outcome: Outcome) -> None:
        if outcome.error is not None:
            failures.append(Refusal("open-failed", path=path, reason=text_of(outcome.error)))
        elif wrong:
            failures.append(Refusal("memory-address", address=f"0x{address:016x}", size=size))
        later.ready()

    system.dumps.executor.do(work, done)
    return later
