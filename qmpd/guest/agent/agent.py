"""The agent: what its commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from qmpd.common.refusals import Refusal
from qmpd.guest.agent.calls import Call, Ending
from qmpd.guest.agent.files import MODES, MemoryFiles
from qmpd.guest.agent.model import GuestModel
from qmpd.guest.agent.programs import Programs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.guest.agent.files import File
    from qmpd.guest.agent.model import Facts

    Handler = Callable[["Agent", dict[str, Any]], object]

FIRST_HANDLE = 1000
FIRST_PROCESS = 1000
WHILE_FROZEN = frozenset({
    "guest-ping", "guest-info", "guest-sync", "guest-sync-delimited", "guest-fsfreeze-status", "guest-fsfreeze-thaw",
})  # fmt: skip
"""What is answered while file systems are frozen."""


class AgentFace(Protocol):
    """What one release's agent is like (`qmpd.qapi.agent`, where each member is explained)."""

    @property
    def number(self) -> str:
        """The version that guest-info tells of."""

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands, in the order of guest-info."""

    @property
    def silent(self) -> frozenset[str]:
        """Those that answer nothing where they succeed."""

    @property
    def never(self) -> frozenset[str]:
        """Those that this system has not."""

    @property
    def tells_truncation(self) -> bool:
        """guest-exec-status says whether captured output was cut."""

    @property
    def newest_processor_first(self) -> bool:
        """guest-get-vcpus lists the processors from the last to the first."""

    @property
    def tells_privileged_bytes(self) -> bool:
        """guest-get-fsinfo has what root may use of a file system, too."""

    def check(self, command: str, arguments: dict[str, object]) -> None:
        """Check the arguments of one of the commands.

        :raise Refusal: they do not fit.
        """


class Work(NamedTuple):
    """A command that reads or writes files: `work` may take time, `finish` makes the result of what it gave.

    `code` is the refusal where the system refuses, `values` what that tells of beside the system's reason.
    """

    work: Callable[[], Any]
    finish: Callable[[Any], object]
    code: str
    values: Mapping[str, object] = {}

    def refusal(self, error: OSError) -> Refusal:
        """What is answered where the work has failed."""
        return Refusal(self.code, **self.values, reason=error.strerror)


class OpenFile(NamedTuple):
    """A file that the host has opened: how, and the file."""

    path: str
    mode: str
    file: File


class Process(NamedTuple):
    """A program that was begun: when it ends, on the machine's own time, and how; what of its output is kept."""

    ends: int
    ending: Ending
    captured: str


class Agent:
    """One guest's agent.  `blocked` are the commands that it was told not to carry out."""

    __slots__ = ("blocked", "face", "facts", "files", "handles", "model", "next_handle", "next_process", "processes",
                 "programs")  # fmt: skip

    def __init__(
        self, face: AgentFace, facts: Facts, files: MemoryFiles | None = None, blocked: frozenset[str] = frozenset()
    ) -> None:
        self.face = face
        self.facts = facts
        self.files = MemoryFiles(_ETC) if files is None else files
        self.blocked = blocked
        self.model = GuestModel()
        self.programs = Programs()
        self.handles: dict[int, OpenFile] = {}
        self.next_handle = FIRST_HANDLE
        self.processes: dict[int, Process] = {}
        self.next_process = FIRST_PROCESS

    def is_enabled(self, command: str) -> bool:
        """Whether a command that there is may be used now."""
        if command in self.face.never or command in self.blocked:
            return False
        return self.model.frozen is None or command in WHILE_FROZEN

    # Files and programs

    def handle(self, number: int) -> OpenFile:
        """An open file by its number.

        :raise Refusal: there is none.
        """
        found = self.handles.get(number)
        if found is None:
            raise Refusal("agent-file-handle", handle=number)
        return found

    def begin(self, call: Call, captured: str) -> int:
        """Begin a program; the number of its process.

        :raise OSError: it cannot be begun.
        """
        ending = self.programs.run(call)
        number = self.next_process
        self.next_process += 1
        ends = self.facts.running() + round(ending.seconds * 1e9)
        self.processes[number] = Process(ends, ending, captured)
        return number

    def restart(self) -> None:
        """Begin anew, as after a reboot: what was open is gone, but no handle's number comes again."""
        self.handles.clear()
        self.processes.clear()
        self.model.frozen = None
        self.model.processors_off.clear()
        self.model.memory_off.clear()

    # Another process

    def snapshot(self) -> dict[str, Any]:
        """All of it as plain data; scripted programs are the process's own."""
        places = {number: [each.path, each.mode, each.file.seek(0, 1)] for number, each in self.handles.items()}
        processes = {
            number: [each.ends, [[stream, piece.decode("latin-1")] for stream, piece in each.ending.printed],
                     each.ending.status, each.ending.signal, each.captured]
            for number, each in self.processes.items()
        }  # fmt: skip
        return {
            "model": self.model.snapshot(),
            "files": self.files.snapshot(),
            "handles": list(places.items()),
            "next_handle": self.next_handle,
            "processes": list(processes.items()),
            "next_process": self.next_process,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Become what `snapshot` made this of."""
        self.model.restore(state["model"])
        self.files.restore(state["files"])
        self.next_handle, self.next_process = state["next_handle"], state["next_process"]
        self.handles.clear()
        for number, (path, mode, place) in state["handles"]:
            file = self.files.open(path, MODES[mode]._replace(empties=False))
            file.seek(place, 0)
            self.handles[number] = OpenFile(path, mode, file)
        self.processes = {
            number: Process(ends, Ending(_pieces(printed), status, signal), kept)
            for number, (ends, printed, status, signal, kept) in state["processes"]
        }


def _pieces(printed: list[tuple[int, str]]) -> tuple[tuple[int, bytes], ...]:
    return tuple((stream, piece.encode("latin-1")) for stream, piece in printed)


_ETC = {
    "/etc/hostname": b"localhost\n",
    "/etc/os-release": b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nID=debian\n',
}
