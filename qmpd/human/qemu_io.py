"""The human monitor's `qemu-io`: reading and writing a disk by hand.

What it prints goes to the program's standard output, as in QEMU; the monitor sees errors about the node alone.
"""

from __future__ import annotations

import errno
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from qmpd.block.content import text_of
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.images.errors import ImageError
from qmpd.block.images.errors import text as error_text
from qmpd.block.nodes import Drive
from qmpd.block.requests import Request, account, carry_out
from qmpd.common.refusals import Refusal, Worded
from qmpd.human import qemu_io_words as words
from qmpd.human.qemu_io_words import Wrong
from qmpd.machine.errors import MachineError
from qmpd.monitor.commands.block import find_drive
from qmpd.schedule.schedule import Time
from qmpd.system.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.block.drivers.blkdebug import BlkDebug
    from qmpd.block.executor import Outcome
    from qmpd.block.nodes import BlockNode
    from qmpd.human.line import Line
    from qmpd.system.system import System

    Tell = Callable[[str | Exception], None]

_WRITING = frozenset({"write", "writev", "aio_write", "discard", "truncate"})
_MOST, _ZEROS, _DEFAULT_PATTERN = (1 << 31) - 512, 1 << 20, 0xCD


def qemu_io(system: System, line: Line) -> Deferred:
    """Execute one command of `qemu-io` on a drive or a node."""
    by_device = line.flag("d")
    name = line.required("block device name")
    text = line.required()
    line.end()
    graph = system.inventory.backends.block
    drive = find_drive(system, {"id": name}) if by_device else graph.drive(name)
    node = graph.find_node(name) if drive is None else drive.node
    said: list[str | Exception] = []
    later = Deferred(lambda: _told(said))

    def tell(text: str | Exception) -> None:
        said.append(text)
        later.ready()

    # What was replied before is written before this prints.
    begin = partial(system.disks.apart.do, partial(_begin, system, drive, node, text.split(), tell))
    system.machine.later(lambda: system.when_output_is_out(begin))
    return later


def _told(said: list[str | Exception]) -> str:
    if isinstance(said[-1], Exception):
        raise said[-1]
    return "".join(map(str, said))


def _begin(system: System, drive: Drive | None, node: BlockNode | None, given: list[str], tell: Tell) -> None:
    """Begin a command; what the monitor says in the end is told."""
    command = words.find(given[0]) if given else None
    session = _Session(system, drive, node, tell)
    if command is None:
        if given:
            system.print(f'command "{given[0]}" not found\n')
        session.end()
        return
    try:
        if command.name in _WRITING:
            session.hold(resizes=command.name == "truncate")
        session.execute(command, given[1:])
    except Wrong as error:
        session.say(str(error))
        session.end()
    except Refusal as error:
        told = system.release.refusals
        session.end("\n".join((told.message(error), *told.hint(error), "")))
    except Exception as defect:
        session.end(defect)  # whoever has asked is told of it


class _Session:
    """One command at work: `say` prints, `tell` is what the monitor says when it has ended.

    `node` is None where nothing is in the drive.
    """

    def __init__(self, system: System, drive: Drive | None, node: BlockNode | None, tell: Tell) -> None:
        self._system = system
        self._tell = tell
        self._held: Drive | None = None
        self._drive = drive
        self._medium = node
        # The node that it uses as no drive's: who comes to one or leaves it pauses jobs for a moment.
        self._came_to = node if drive is None else None
        if drive is None:
            system.inventory.backends.block.changed()
        # What is said while others read and write, to be printed when they have done so.
        self._waiting: list[str] | None = None

    @property
    def _node(self) -> BlockNode:
        """:raise OSError: nothing is in the drive."""
        if self._medium is None:
            raise OSError(errno.ENOMEDIUM, error_text(errno.ENOMEDIUM))
        return self._medium

    def say(self, text: str) -> None:
        """Print something."""
        if self._waiting is None:
            self._system.print(text)
        else:
            self._waiting.append(text)

    def hold(self, *, resizes: bool) -> None:
        """Take the right to write, for as long as the command is at work.

        :raise Refusal: the node is read-only, or another user does not allow it.
        """
        if self._medium is None:
            return
        # QEMU stops with a failed assertion where an image is still another machine's.
        if self._node.read_only or self._node.inactive:
            raise Worded("Block node is read-only")
        if self._drive is None:
            user = Drive("", label="", writes=True, resizes=resizes, shares=True, node=self._node)
            self._system.inventory.backends.block.use(user)
            self._held = user

    def _let_go(self) -> None:
        """Give the right back, and use the node no more."""
        if self._came_to is not None:
            self._system.inventory.backends.block.left(self._came_to)
        self._came_to = None
        held, self._held = self._held, None
        if held is not None:
            self._system.inventory.backends.block.empty(held)

    def end(self, text: str | Exception = "") -> None:
        """The command has ended."""
        self._let_go()
        self._tell(text)

    def execute(self, command: words.Command, given: list[str]) -> None:
        """Execute a command; where it reads or writes the monitor waits for it."""
        found = words.parse(command, given)
        quick: Callable[[words.Words], str | None] | None = getattr(self, f"_{command.name}", None)
        work: Any = None if quick is not None else getattr(self, f"_do_{command.name}")(found)
        if self._medium is None and self._drive is not None and command.name in words.MISSED:
            self.end(words.MISSED[command.name].format(name=self._drive.name))
            return
        if quick is not None:
            said = quick(found)
            if said is not None:
                self.end(said)
            return
        if command.name in ("aio_read", "aio_write") and not self._ends_with_it():
            self._system.disks.executor.do(work, lambda outcome: self._let_go())
            self._tell("")
        else:
            self._wait(work)

    def _ends_with_it(self) -> bool:
        """Whether the command lasts as long as its request: QEMU waits for those of a user that leaves with them."""
        debugger = self._debugger()
        return self._drive is None and (debugger is None or not debugger.is_armed)

    def _wait(self, work: Callable[[], Any]) -> None:
        self._waiting = []
        # Commands that change nodes come after it.
        self._system.disks.apart.hold()

        def done(outcome: Outcome) -> None:
            self._system.disks.requests.tell()
            self._system.when_output_is_out(self._print)

        self._system.disks.executor.do(work, done)

    def _print(self) -> None:
        """Print what was said, once the events of what has happened are sent; that is the end."""
        said, self._waiting = self._waiting, None
        for text in said or ():
            self.say(text)
        self.end()
        self._system.disks.apart.let_go()

    # What ends at once; where it does not, None is given

    def _abort(self, given: words.Words) -> str:
        raise MachineError("qmpd does not end itself for qemu-io")

    def _help(self, given: words.Words) -> str:
        if not given.arguments:
            self.say("".join(words.usage(each) for each in words.COMMANDS))
            self.say("\nUse 'help commandname' for extended help.\n")
            return ""
        command = words.find(given.arguments[0])
        if command is None:
            self.say(f"command {given.arguments[0]} not found\n")
        else:
            self.say(words.usage(command))
        return ""

    def _length(self, given: words.Words) -> str:
        try:
            self.say(words.size(self._node.virtual_size) + "\n")
        except OSError as error:
            self.say(f"getlength: {error.strerror}\n")
        return ""

    def _info(self, given: words.Words) -> str:
        from qmpd.human.qemu_io_info import told_of

        return told_of(self._node, self.say, headed=self._system.release.behaviour.format_facts_headed)

    def _sleep(self, given: words.Words) -> None:
        try:
            wait = int(given.arguments[0], 0)
        except ValueError:
            raise Wrong(f"{given.arguments[0]} is not a valid number\n") from None
        delay = max(0, wait) * 1_000_000
        self._system.disks.requests.delayed(delay, self.end)

    def _sigraise(self, given: words.Words) -> str:
        raise MachineError("qmpd does not raise signals for qemu-io")

    def _aio_flush(self, given: words.Words) -> None:
        def work() -> None:
            request = Request("flush", began=self._system.machine.schedule.now(Time.CLOCK))
            self._flush_node()
            self._count(request, 0)

        self._wait(work)

    def _flush_node(self) -> None:
        if self._medium is not None and self._medium.port is not None:
            self._medium.port.flush()

    def _debugger(self) -> BlkDebug | None:
        from qmpd.block.drivers.blkdebug import BlkDebug

        node = self._medium
        while node is not None:
            if isinstance(node.content, BlkDebug):
                return node.content
            node = node.children.get(DRIVERS[node.driver].first)
        return None

    def _break(self, given: words.Words) -> str:
        debugger = self._debugger()
        if debugger is None:
            self.say(f"Could not set breakpoint: {error_text(errno.ENOTSUP)}\n")
        elif not debugger.add_break(*given.arguments):
            self.say(f"Could not set breakpoint: {error_text(errno.ENOENT)}\n")
        return ""

    def _remove_break(self, given: words.Words) -> str:
        debugger = self._debugger()
        [tag] = given.arguments
        if debugger is None:
            self.say(f"Could not remove breakpoint {tag}: {error_text(errno.ENOTSUP)}\n")
        elif not debugger.remove_break(tag):
            self.say(f"Could not remove breakpoint {tag}: {error_text(errno.ENOENT)}\n")
        return ""

    def _resume(self, given: words.Words) -> str:
        debugger = self._debugger()
        if debugger is None:
            self.say(f"Could not resume request: {error_text(errno.ENOTSUP)}\n")
        elif not debugger.resume(given.arguments[0]):
            self.say(f"Could not resume request: {error_text(errno.ENOENT)}\n")
        return ""

    def _wait_break(self, given: words.Words) -> str | None:
        if (debugger := self._debugger()) is None:
            return ""
        tag, executor = given.arguments[0], self._system.disks.executor
        self._wait(lambda: executor.wait(lambda: debugger.is_held(tag)))
        return None

    def _reopen(self, given: words.Words) -> str:
        from qmpd.block.reopening import reopen_by_hand

        reopen_by_hand(self._system.inventory.backends.block, self._node, self._drive, given.options)
        return ""

    # What reads and writes: each gives the work that is to be done

    def _place(self, given: words.Words, *, may_be_long: bool = False) -> tuple[int, int]:
        offset, *lengths = map(words.number, given.arguments)
        unless = " without -n" if may_be_long and self._system.release.behaviour.zeroes_unlimited else ""
        if (count := sum(lengths)) > _MOST and not (unless and "n" in given.options):
            raise Wrong(f"length cannot exceed {_MOST}{unless}, given {given.arguments[1]}\n")
        return offset, count

    def _arguments(self, given: words.Words, command: str, most: int | None = 2) -> None:
        count = len(given.arguments)
        if count < 2 or (most is not None and count != most):
            found = words.find(command)
            assert found is not None
            raise Wrong(words.usage(found))

    def _try(self, request: Request, failed: str) -> bool:
        """Carry out a request; whether that went well.  What has failed is told."""
        try:
            request.data = carry_out(self._node, request) if request.kind == "read" else self._carried(request)
            return True
        except (OSError, ImageError) as error:
            self.say(f"{failed} failed: {text_of(error)}\n")
            return False

    def _carried(self, request: Request) -> bytes | None:
        carry_out(self._node, request)
        return request.data

    def _count(self, request: Request, error: int) -> None:
        """Enter it into the drive's account."""
        if self._drive is not None:
            request.error = error
            account(self._drive, request, self._system.machine.schedule.now(Time.CLOCK))

    def _do_read(self, given: words.Words, *, name: str = "read", done: str = "read") -> Callable[[], None]:
        options = given.options
        self._arguments(given, name, None if name in ("readv", "aio_read") else 2)
        offset, count = self._place(given)
        pattern = words.byte(options["P"]) if "P" in options else None
        skip = words.number(options["s"]) if "s" in options else 0
        length = words.number(options["l"]) if "l" in options else count - skip
        if ("s" in options or "l" in options) and pattern is None:
            raise Wrong(words.usage(words.COMMANDS[12]))
        if skip + length > count:
            raise Wrong("pattern verification range exceeds end of read data\n")
        expected = words.Expected(pattern, skip, length)
        request = Request("read", offset, count, take=None if "v" in options else expected.take)

        def work() -> None:
            request.began = self._system.machine.schedule.now(Time.CLOCK)
            begun = time.perf_counter()
            good = self._try(request, "read" if name == "read" else "readv")
            took = time.perf_counter() - begun
            if name == "aio_read":
                self._count(request, 0 if good else errno.EIO)
            if not good:
                return
            if request.data is not None:
                expected.take(0, request.data)
            if expected.is_missing:
                self.say(f"Pattern verification failed at offset {offset + skip}, {length} bytes\n")
            if "q" in options:
                return
            if request.data is not None:
                self.say(words.dump(request.data, offset))
            self.say(words.report(done, offset, count, count, took, terse="C" in options))

        return work

    def _do_readv(self, given: words.Words) -> Callable[[], None]:
        return self._do_read(given, name="readv")

    def _do_aio_read(self, given: words.Words) -> Callable[[], None]:
        if "i" in given.options:
            return self._invalid("rd", "read")
        return self._do_read(given, name="aio_read")

    def _invalid(self, kind: str, name: str) -> Callable[[], None]:
        """A request that the device itself refuses: it is counted, and nothing else."""
        self.say(f"injecting invalid {name} request\n")
        if self._drive is not None:
            key = f"invalid_{kind}_operations"
            self._drive.statistics[key] = self._drive.statistics.get(key, 0) + 1
            self._drive.last_access = self._system.machine.schedule.now(Time.CLOCK)
        return lambda: None

    def _do_write(self, given: words.Words, *, name: str = "write") -> Callable[[], None]:
        options = given.options
        self._arguments(given, name, 2 if name == "write" else None)
        self._check_write(options, name)
        offset, count = self._place(given, may_be_long=name == "write")
        pattern = words.byte(options["P"]) if "P" in options else _DEFAULT_PATTERN
        data = None
        if "s" in options:
            data = words.source(options["s"], count)
        kind = "zero" if "z" in options else "write"
        request = Request(kind, offset, count, 0 if "z" in options else pattern, data, unmap="u" in options)
        request.through = "f" in options or (self._drive is not None and not self._drive.caches)
        failed = {"write": "write", "writev": "writev", "aio_write": "aio_write"}[name]

        def work() -> None:
            request.began = self._system.machine.schedule.now(Time.CLOCK)
            begun = time.perf_counter()
            good = self._compressed(offset, pattern, count) if "c" in options else self._try(request, failed)
            took = time.perf_counter() - begun
            if name == "aio_write":
                self._count(request, 0 if good else errno.EIO)
            if good and "q" not in options:
                self.say(words.report("wrote", offset, count, count, took, terse="C" in options))

        return work

    @staticmethod
    def _check_write(options: dict[str, str], name: str) -> None:
        if "b" in options and "z" in options:
            raise Wrong("-b and -z cannot be specified at the same time\n")
        if "f" in options and ("b" in options or "c" in options):
            raise Wrong("-f and -b or -c cannot be specified at the same time\n")
        if "n" in options and "z" not in options:
            raise Wrong("-n requires -z to be specified\n")
        if "u" in options and "z" not in options:
            raise Wrong("-u requires -z to be specified\n")
        if name == "write" and sum(each in options for each in "zPs") > 1:
            raise Wrong("Only one of -z, -P, and -s can be specified at the same time\n")
        if "b" in options:
            raise Wrong("qmpd does not model qemu-io's -b\n")

    def _compressed(self, offset: int, pattern: int, count: int) -> bool:
        try:
            write = getattr(self._node.content, "write_compressed", None)
            if write is None:
                raise OSError(errno.ENOTSUP, error_text(errno.ENOTSUP))
            write(offset, bytes([pattern]) * count)
            return True
        except (OSError, ImageError) as error:
            self.say(f"write failed: {text_of(error)}\n")
            return False

    def _do_writev(self, given: words.Words) -> Callable[[], None]:
        return self._do_write(given, name="writev")

    def _do_aio_write(self, given: words.Words) -> Callable[[], None]:
        if "i" in given.options:
            return self._invalid("wr", "write")
        return self._do_write(given, name="aio_write")

    def _do_discard(self, given: words.Words) -> Callable[[], None]:
        self._arguments(given, "discard")
        offset, count = self._place(given)

        def work() -> None:
            begun = time.perf_counter()
            good, took = self._try(Request("discard", offset, count), "discard"), time.perf_counter() - begun
            if good and "q" not in given.options:
                self.say(words.report("discard", offset, count, count, took, terse="C" in given.options))

        return work

    def _do_flush(self, given: words.Words) -> Callable[[], None]:
        return self._flush_node

    def _do_truncate(self, given: words.Words) -> Callable[[], None]:
        if len(given.arguments) != 1:
            raise Wrong(words.usage(next(each for each in words.COMMANDS if each.name == "truncate")))
        size = words.number(given.arguments[0])

        def work() -> None:
            if self._node.port is not None:
                self._node.port.truncate(size)

        return work

    def _do_alloc(self, given: words.Words) -> Callable[[], None]:
        offset = words.number(given.arguments[0])
        count = words.number(given.arguments[1]) if len(given.arguments) > 1 else 512

        def work() -> None:
            assert self._node.port is not None
            there = sum(length for length, has in self._node.port.pieces(offset, count) if has)
            self.say(f"{there}/{count} bytes allocated at offset {words.size(offset)}\n")

        return work

    def _do_map(self, given: words.Words) -> Callable[[], None]:
        def work() -> None:
            assert self._node.port is not None
            offset = 0
            runs: list[tuple[int, int, bool]] = []
            for length, has in self._node.port.pieces(0, self._node.size):
                if runs and runs[-1][2] == has:
                    runs[-1] = (runs[-1][0], runs[-1][1] + length, has)
                else:
                    runs.append((offset, length, has))
                offset += length
            for start, length, has in runs:
                state = "    allocated" if has else "not allocated"
                self.say(
                    f"{words.size(length)} (0x{length:x}) bytes {state} at offset {words.size(start)} (0x{start:x})\n"
                )

        return work
