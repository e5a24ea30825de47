"""A VM in a test: everything that can be done to it, waited for and asked of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar, cast

from qmpd.control.agent import AgentControl
from qmpd.control.clock import ClockKind
from qmpd.control.errors import ControlError
from qmpd.control.faults import FaultControl
from qmpd.control.guest import GuestControl
from qmpd.control.jobs import JobControl
from qmpd.control.puppeteer import GROUPS
from qmpd.control.replies import ReplyControl
from qmpd.control.time import ClockControl
from qmpd.control.transcript import TranscriptControl
from qmpd.testing import comparison, names
from qmpd.testing.patterns import as_pattern, difference, name_pattern
from qmpd.testing.waiting import result_of
from qmpd.testing.watch import WatchEndedError
from qmpd.timeline.wording import line, spell_members

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from qmpd.control.declaration import Group
    from qmpd.control.performance import Declaration
    from qmpd.control.puppeteer import Puppeteer
    from qmpd.guest.agent.calls import Call, Ending
    from qmpd.qapi import Release
    from qmpd.testing.patterns import Command, CommandPattern, Event, Pattern
    from qmpd.testing.snapshot import Snapshot
    from qmpd.testing.watch import Watch
    from qmpd.timeline.transcript import Entry

T = TypeVar("T")

TIMEOUT = 5.0
"""Seconds of the computer's time that are waited where nothing else is asked for."""

NEGOTIATION = ("qmp_capabilities",)
TAIL = 12
"""Entries of the transcript that a failure shows."""

_ATTRIBUTES = {group: attribute for attribute, group in GROUPS.items()}


class WaitTimeoutError(AssertionError):
    """What was waited for has not happened; the text tells what has."""


class VM(ABC):
    """A VM that runs, in this process or in another one.  Everything may be called from any thread.

    `guest`, `agent`, `clock`, `faults`, `replies` and `transcript` are what the control socket offers, as methods.
    What clients have sent before such a method is called is executed before it, and what it brings about has happened
    when it returns.  They raise `ControlError` where what is asked for cannot be done.

    The `wait_for_...` methods find what has happened already as well as what happens next, and give each thing once:
    a second `wait_for_event("RESET")` waits for a second RESET.  They take the computer's time, also where the VM's
    clock is virtual; those that end in `_async` are for code that runs under asyncio or trio.
    """

    def __init__(self, release: Release, paths: Sequence[str], watch: Watch) -> None:
        """`paths` are the QMP sockets'."""
        self.release = release.name
        self._release = release
        self.qmp_paths = list(paths)
        self._watch = watch
        performer = cast("Puppeteer", self)
        self.guest = GuestControl(performer)
        self.agent = AgentControl(performer)
        self.clock = ClockControl(performer)
        self.faults = FaultControl(performer)
        self.jobs = JobControl(performer)
        self.replies = ReplyControl(performer)
        self.transcript = TranscriptControl(performer)

    @property
    def qmp_path(self) -> str:
        """The path of the QMP socket, the first where there are several."""
        return self.qmp_paths[0]

    # What the two kinds of VMs do each in its way

    @abstractmethod
    def _perform(
        self, attribute: str, declaration: Declaration, arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        """Execute a command of the group that is the puppeteer's `attribute`."""

    @property
    @abstractmethod
    def exit_status(self) -> int | None:
        """The VM's exit status; None as long as it runs."""

    @abstractmethod
    def close(self) -> None:
        """End the VM, whatever it is doing, and take its sockets away; nothing happens where that has been done."""

    def agent_program(self, path: str, program: Callable[[Call], Ending]) -> None:
        """Have the guest's agent run a function where it is asked for the program at `path`.

        :raise ControlError: it cannot.
        """
        raise ControlError("only the agent of a VM in this process runs functions; agent.execute() scripts a program")

    def snapshot(self) -> Snapshot:
        """Keep the VM as it is, to `restore` it as often as needed: a slow set-up is made once for many tests.

        :raise ControlError: it cannot be kept.
        """
        raise ControlError("only a VM in this process can be kept")

    def restore(self, snapshot: Snapshot) -> None:
        """Be as the VM was when the snapshot was made.

        :raise ControlError: it cannot.
        """
        raise ControlError("only a VM in this process can be kept")

    @abstractmethod
    def _initial_state(self) -> str:
        """The run state that the VM began with."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def perform(
        self, declaration: Declaration, group: Group, arguments: tuple[Any, ...], options: Mapping[str, Any]
    ) -> Any:
        """Execute a control command: what the methods of `guest`, `clock` and so on come down to.

        :raise ControlError: it cannot be done.
        """
        __tracebackhide__ = True
        result = self._perform(_ATTRIBUTES[type(group)], declaration, arguments, options)
        if declaration.name == "transcript-reset":
            self._watch.forget()
        return result

    # What has happened

    def _catch_up(self) -> None:
        """Have everything executed that clients have sent by now."""
        if self.exit_status is None:
            self.clock.query()

    @property
    def history(self) -> list[Entry]:
        """The whole transcript, whatever `transcript.reset` has dropped; it can be drawn (`qmpd.timeline`)."""
        return list(self._watch.history)

    @property
    def events(self) -> list[Event]:
        """The events that the VM has emitted since the transcript was last reset, whoever heard them."""
        self._catch_up()
        found = (self._watch.event(each) for each in self._watch.entries)
        return [event for event in found if event is not None]

    @property
    def commands(self) -> list[Command]:
        """The commands that clients have sent since the transcript was last reset."""
        self._catch_up()
        found = (self._watch.command(each) for each in self._watch.entries)
        return [command for command in found if command is not None]

    @property
    def run_state(self) -> str:
        """The run state, as `query-status` tells it."""
        self._catch_up()
        changes = [each for each in self._watch.history if each.kind == "run-state"]
        return str(changes[-1].members["to"]) if changes else self._initial_state()

    def report(self, limit: int | None = None) -> str:
        """The transcript for people to read, a line an entry, the last `limit` of them."""
        history = self._watch.history
        shown = history if limit is None else history[-limit:]
        lines = [line(each, history[0].time) for each in shown]
        if len(shown) < len(history):
            lines.insert(0, f"... {len(history) - len(shown)} entries before")
        return "\n".join(lines)

    # Waiting

    def wait_for_event(
        self,
        name: str | re.Pattern[str],
        data: Mapping[str, Any] | None = None,
        *,
        timeout: float = TIMEOUT,
    ) -> Event:
        """Wait until the VM emits an event.

        :param name: its name, in which `*` stands for anything, or a regular expression.
        :param data: members that its data has among others; patterns as for `command`.
        :param timeout: seconds of the computer's time.
        :raise UnknownNameError: the release has no such event.
        :raise WaitTimeoutError: it does not.
        """
        __tracebackhide__ = True
        return self._wait(self._event(name, data), f"event {_spell(name, data)}", timeout)

    async def wait_for_event_async(
        self, name: str | re.Pattern[str], data: Mapping[str, Any] | None = None, *, timeout: float = TIMEOUT
    ) -> Event:
        """The same, for code that runs under asyncio or trio."""
        __tracebackhide__ = True
        return await self._wait_async(self._event(name, data), f"event {_spell(name, data)}", timeout)

    def wait_for_command(self, pattern: Pattern, /, *, timeout: float = TIMEOUT, **members: Any) -> Command:
        """Wait until a client sends a command.

        :param pattern: its name, or a `command(...)`; `members` are its arguments, among others.
        :raise WaitTimeoutError: none does.
        """
        __tracebackhide__ = True
        wanted = as_pattern(pattern, members)
        return self._wait(self._command(wanted), f"command {wanted}", timeout)

    async def wait_for_command_async(self, pattern: Pattern, /, *, timeout: float = TIMEOUT, **members: Any) -> Command:
        """The same, for code that runs under asyncio or trio."""
        __tracebackhide__ = True
        wanted = as_pattern(pattern, members)
        return await self._wait_async(self._command(wanted), f"command {wanted}", timeout)

    def wait_for_run_state(self, state: str, *, timeout: float = TIMEOUT) -> None:
        """Wait until the VM is in a run state; nothing where it is.

        :raise UnknownNameError: there is no such run state.
        :raise WaitTimeoutError: it does not get there.
        """
        __tracebackhide__ = True
        names.check_run_state(state)
        if self.run_state != state:
            self._wait(_state(state, len(self._watch.history)), f"run state {state}", timeout)

    async def wait_for_run_state_async(self, state: str, *, timeout: float = TIMEOUT) -> None:
        """The same, for code that runs under asyncio or trio."""
        __tracebackhide__ = True
        names.check_run_state(state)
        if self.run_state != state:
            await self._wait_async(_state(state, len(self._watch.history)), f"run state {state}", timeout)

    def wait_for_job(self, id: str, status: str, *, timeout: float = TIMEOUT) -> None:  # noqa: A002 - QMP's name for it
        """Wait until a job is in a status (QAPI `JobStatus`); nothing where it is.

        :raise UnknownNameError: there is no such status.
        :raise WaitTimeoutError: it does not get there.
        """
        __tracebackhide__ = True
        names.check_job_status(status)
        if self._job_status(id) != status:
            self._wait(self._job(id, status), f"job {id} to be {status}", timeout)

    async def wait_for_job_async(self, id: str, status: str, *, timeout: float = TIMEOUT) -> None:  # noqa: A002
        """The same, for code that runs under asyncio or trio."""
        __tracebackhide__ = True
        names.check_job_status(status)
        if self._job_status(id) != status:
            await self._wait_async(self._job(id, status), f"job {id} to be {status}", timeout)

    def _job_status(self, identifier: str) -> str | None:
        """The status that a job was last told to be in; None where there was none."""
        found = None
        for event in self.events:
            if event.name == "JOB_STATUS_CHANGE" and event.data["id"] == identifier:
                found = event.data["status"]
        return found

    def _job(self, identifier: str, status: str) -> Callable[[Entry], bool | None]:
        after = len(self._watch.history)

        def wanted(each: Entry) -> bool | None:
            event = self._watch.event(each) if each.number > after else None
            if event is None or event.name != "JOB_STATUS_CHANGE":
                return None
            return True if event.data == {"id": identifier, "status": status} else None

        return wanted

    def wait_until_ended(self, *, timeout: float = TIMEOUT) -> int:
        """Wait until the VM has ended; its exit status.

        :raise WaitTimeoutError: it runs on.
        """
        __tracebackhide__ = True
        if self.exit_status is None:
            self._wait(_ended, "end", timeout)
        return self._final_status()

    async def wait_until_ended_async(self, *, timeout: float = TIMEOUT) -> int:
        """The same, for code that runs under asyncio or trio."""
        __tracebackhide__ = True
        if self.exit_status is None:
            await self._wait_async(_ended, "end", timeout)
        return self._final_status()

    @abstractmethod
    def _final_status(self) -> int:
        """The exit status of a VM that has ended or is about to; its sockets are gone when this returns."""

    def _event(self, name: str | re.Pattern[str], data: Mapping[str, Any] | None) -> Callable[[Entry], Event | None]:
        __tracebackhide__ = True
        fits = name_pattern(name)
        seen = (self._watch.event(each) for each in self._watch.history)
        names.check_event(self._release, name, (event.name for event in seen if event is not None))

        def wanted(each: Entry) -> Event | None:
            event = self._watch.event(each)
            if event is None or not fits(event.name):
                return None
            return event if data is None or difference(data, event.data, "data") is None else None

        return wanted

    def _command(self, pattern: CommandPattern) -> Callable[[Entry], Command | None]:
        __tracebackhide__ = True
        self._check_commands([pattern])

        def wanted(each: Entry) -> Command | None:
            command = self._watch.command(each)
            return command if command is not None and pattern.fits(command) else None

        return wanted

    def _check_commands(self, patterns: Sequence[CommandPattern]) -> None:
        __tracebackhide__ = True
        sent = (self._watch.command(each) for each in self._watch.history)
        names.check_commands(self._release, patterns, (command.name for command in sent if command is not None))

    def _wait(self, wanted: Callable[[Entry], T | None], what: str, timeout: float) -> T:
        __tracebackhide__ = True
        self._catch_up()
        future = self._watch.when(wanted)
        try:
            return future.result(timeout)
        except (TimeoutError, WatchEndedError):
            pass
        finally:
            self._watch.give_up(future)
        raise self._in_vain(what, timeout)

    async def _wait_async(self, wanted: Callable[[Entry], T | None], what: str, timeout: float) -> T:
        __tracebackhide__ = True
        self._catch_up()
        future = self._watch.when(wanted)
        try:
            return await result_of(future, timeout)
        except (TimeoutError, WatchEndedError):
            pass
        finally:
            self._watch.give_up(future)
        raise self._in_vain(what, timeout)

    def _in_vain(self, what: str, timeout: float) -> WaitTimeoutError:
        hint = ""
        if self.exit_status is not None:
            text = f"no {what}: the VM has ended with status {self.exit_status}"
        else:
            text = f"no {what} within {timeout:g} s"
            if self.clock.query().kind is ClockKind.VIRTUAL:
                hint = "\nThe VM's clock is virtual: time passes by clock.advance() and clock.run_until_quiet() alone."
        return WaitTimeoutError(f"{text}{hint}\n\n{self.report(TAIL)}")

    # What the clients sent

    def assert_sent(
        self,
        *expected: Pattern,
        exactly: bool = False,
        ignore: Sequence[Pattern] = NEGOTIATION,
        client: int | None = None,
        **members: Any,
    ) -> None:
        """Assert that clients have sent these commands, in this order; others may come between.

        `vm.assert_sent("stop", command("device_del", id="net0"), "query-*")`.  For one command alone its arguments
        can follow: `vm.assert_sent("device_del", id="net0")`.

        :param exactly: nothing else has been sent, beside what is ignored.
        :param ignore: patterns of commands that do not count, unless they are expected.
        :param client: the number of the client that is meant; all, by default.
        :raise AssertionError: something else has been sent; the text shows what.
        :raise UnknownNameError: the release has no such command, and nobody has sent one.
        """
        __tracebackhide__ = True
        if not expected:
            raise TypeError("nothing is expected: assert_not_sent() asserts that nothing was sent")
        if members and len(expected) > 1:
            raise TypeError("arguments belong to one command: use command(NAME, ARGUMENT=VALUE)")
        patterns = [as_pattern(pattern, members) for pattern in expected]
        sent = self._sent(client, ignore, patterns)
        if exactly:
            pairs = comparison.aligned(patterns, sent)
            good = len(pairs) == len(patterns) == len(sent)
        else:
            pairs = comparison.in_order(patterns, sent)
            good = len(pairs) == len(patterns)
        if not good:
            title = "what was sent is not what was expected"
            raise AssertionError(comparison.report(title, patterns, sent, pairs, exactly=exactly))

    def assert_not_sent(
        self,
        *patterns: Pattern,
        ignore: Sequence[Pattern] = NEGOTIATION,
        client: int | None = None,
        **members: Any,
    ) -> None:
        """Assert that clients have sent no such command; without a pattern, none at all.

        :param ignore: patterns of commands that do not count.
        :raise AssertionError: one was sent; the text shows which.
        :raise UnknownNameError: the release has no such command.
        """
        __tracebackhide__ = True
        wrong = [as_pattern(pattern, members) for pattern in patterns]
        sent = self._sent(client, ignore, wrong)

        def is_wrong(command: Command) -> bool:
            return not wrong or any(pattern.fits(command) for pattern in wrong)

        if any(is_wrong(each) for each in sent):
            what = " or ".join(str(pattern) for pattern in wrong) or "nothing at all"
            title = f"{what} should not have been sent" if wrong else "nothing should have been sent"
            raise AssertionError(comparison.unexpected(title, sent, is_wrong))

    def _sent(self, client: int | None, ignore: Sequence[Pattern], expected: list[CommandPattern]) -> list[Command]:
        __tracebackhide__ = True
        ignored = [as_pattern(pattern) for pattern in ignore]
        commands = [each for each in self.commands if client in (None, each.client)]
        self._check_commands(expected)
        return comparison.ignoring(commands, ignored, expected)


def _spell(name: str | re.Pattern[str], data: Mapping[str, Any] | None) -> str:
    text = name if isinstance(name, str) else f"/{name.pattern}/"
    return f"{text} {spell_members(dict(data))}" if data else text


def _state(state: str, after: int) -> Callable[[Entry], str | None]:
    """The entry of a change to this state, beyond the first `after` entries."""

    def wanted(each: Entry) -> str | None:
        entered = each.kind == "run-state" and each.number > after and each.members.get("to") == state
        return state if entered else None

    return wanted


def _ended(each: Entry) -> bool | None:
    return True if each.kind == "ended" else None
