"""What a machine asks of the process that serves it: the ways out, which the server alone has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from qmpd.block.executor import Executor
    from qmpd.block.exports.exports import Listening
    from qmpd.migration.channel import Ways
    from qmpd.system.dumps.plan import Output


class Host(Protocol):
    """Who serves the machine: its files and sockets (`qmpd.server.virtual_machine.VirtualMachine`)."""

    def open_chardev(self, label: str, backend: Mapping[str, Any]) -> str | None:
        """Open a character device and enter it among the others; `backend` is as `chardev-add` has it.

        Gives the path of a pseudo-terminal.

        :raise Refusal: it cannot be opened.
        """

    def close_chardev(self, label: str) -> None:
        """Close one that was opened so, or when the machine started."""

    def give_client(self, label: str, number: int) -> bool:
        """Give a character device that listens a client, by the descriptor of its socket, which is closed in the end.

        False where the device takes none: it has one, or is no socket that listens.

        :raise NotModelled: real QEMU might take it.
        """

    def open_monitor(self, settings: Mapping[str, Any]) -> None:
        """Have a monitor on a character device (`qmpd.system.monitors.settings_of`); whoever is connected is greeted.

        :raise NotModelled: the device is none that this can be done with.
        """

    def has_removable_monitor(self, label: str) -> bool:
        """Whether there is a monitor on a character device that can be taken away again."""

    def close_monitor(self, label: str) -> None:
        """Take away a monitor; its client stays connected, and is heard by nobody."""

    def open_debugger(self, device: str) -> bool:
        """Let debuggers connect to a device, in its short form, or to none; whether they can now.

        :raise Refusal: it cannot be opened, or the machine takes no debugger.
        """

    def write_file(self, path: str | int, content: Callable[[], bytes]) -> tuple[int, Callable[[], None]]:
        """Write a file that a client asks for, or one that is open, by its number; a thread makes the content.

        The descriptor that this gives can be read when that is done or has failed; the function raises OSError then
        where it has.
        """

    def open_log(self, path: str | None) -> Callable[[str], None]:
        """What writes lines to the file of this name, behind what is there, or to standard error.

        Nobody waits for the file; where it cannot be written that is told, and the lines are lost.
        """

    def when_readable(self, descriptor: int, then: Callable[[], None]) -> None:
        """Have `then` done in the main loop once this descriptor can be read; it is closed by then."""

    def print(self, text: str) -> None:
        """Print something to standard output; from any thread."""

    def is_output_out(self) -> bool:
        """Whether what monitors on standard output and the like have said is written there."""

    def report(self, line: str) -> None:
        """Print a line to standard error, from a thread, which waits for a moment until it is there."""

    def disk_threads(self) -> Executor:
        """The threads that read and write the machine's disks; the same each time."""

    def more_threads(self) -> Executor:
        """Threads that write other files; others each time."""

    def open_output(self, path: str, mode: int) -> Output:
        """Make a file, or write it anew; in a thread.  It has these permissions where it is new.

        :raise OSError: it cannot be opened.
        """

    def output_to(self, number: int) -> Output:
        """Write to an open file, which is this machine's from now on."""

    def open_nbd_server(self, address: Mapping[str, Any]) -> Listening:
        """Let clients of the machine's exports connect at an address (QAPI's SocketAddress; `fd` is a number).

        :raise Refusal: it cannot be had.
        """

    def open_front_end(self, address: Mapping[str, Any], name: str) -> Listening:
        """Listen at an address for what qmpd does not model: whoever connects is turned away, and that is told.

        :raise Refusal: it cannot be had.
        """

    def migration_ways(self) -> Ways:
        """Who makes the channels of migrations."""

    def do_apart(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        """Do something that takes its time in a thread of its own; `then` is called in the main loop's thread."""

    def wait_for_writer(self, path: str, then: Callable[[], None]) -> bool:
        """Have `then` done in the main loop once somebody has written to this named pipe.

        False where there is no pipe to wait for: then nothing is done.
        """
