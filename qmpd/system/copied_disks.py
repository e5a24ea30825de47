"""The disks of a machine, as a migration copies them (`qmpd.migration.disks`): the disks' threads read and write."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Protocol

from qmpd.block.activation import take_back_one
from qmpd.block.content import number_of
from qmpd.block.drivers.formats import Qcow2Content
from qmpd.block.images.errors import text as error_text
from qmpd.block.jobs.chain import first_run, unfiltered
from qmpd.common.refusals import Refusal
from qmpd.migration.disks import PIECE, Disk
from qmpd.migration.stream import BadStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from qmpd.block.executor import Outcome
    from qmpd.block.nodes import BlockNode, Drive
    from qmpd.hardware.inventory import Inventory
    from qmpd.system.disks import Disks

    class System(Protocol):
        """A whole machine (`qmpd.system.system.System`)."""

        @property
        def inventory(self) -> Inventory:
            """What it consists of."""

        @property
        def disks(self) -> Disks:
            """Who reads and writes its disks."""

        def print(self, text: str) -> None:
            """Print something to standard output."""


_REFUSED = "error while loading state section id 1(block)"


class CopiedDisks:
    """The disks of one machine; `top_alone`: of an image what is in it alone is copied, not what is behind it."""

    def __init__(self, system: System, *, top_alone: bool) -> None:
        self._system = system
        self._top_alone = top_alone
        # What is copied from here, which is found out once.
        self._leaving: list[BlockNode] = []

    def _drives(self) -> Iterator[tuple[Drive, BlockNode]]:
        for drive in self._system.inventory.backends.block.drives:
            if drive.node is not None and drive.role == "root" and not drive.node.read_only:
                yield drive, drive.node

    def all(self) -> list[Disk]:
        """See `Disks`."""
        found = list(self._drives())
        self._leaving = [node for _, node in found]
        return [Disk(drive.name, node.virtual_size) for drive, node in found]

    def read(self, place: int, offset: int, length: int, then: Callable[[bytes | OSError | None], None]) -> None:
        """See `Disks`."""
        node = self._leaving[place]
        alone = self._top_alone and "backing" in node.children

        def work() -> bytes | None:
            assert node.port is not None
            if alone and first_run(node.port, offset, length) == (length, False):
                return None
            return node.port.read(offset, length)

        def done(outcome: Outcome) -> None:
            error = outcome.error
            then(outcome.value if error is None else OSError(number_of(error), error_text(number_of(error))))

        self._system.disks.executor.do(work, done)

    def tell(self, text: str) -> None:
        """See `Disks`."""
        self._system.print(text)

    def check(self, names: Iterable[str]) -> None:
        """See `Disks`."""
        for name in names:
            self._named(name)

    def _named(self, name: str) -> BlockNode:
        node = next((node for drive, node in self._drives() if drive.name == name), None)
        if node is None:
            raise BadStream(f"Error unknown block device {name}")
        return node

    def write(self, name: str, offset: int, length: int, data: bytes, then: Callable[[str | None], None]) -> None:
        """See `Disks`."""
        node = self._named(name)
        whole = -(-length // _written_at_once(node)) * _written_at_once(node)
        if not 0 <= offset <= offset + whole <= node.virtual_size or len(data) not in (0, length):
            raise BadStream(_REFUSED, errno.EIO)
        if node.inactive:
            try:
                take_back_one(self._system.inventory.backends.block, node)
            except Refusal as refusal:
                raise BadStream(str(refusal)) from None
        port = node.port
        assert port is not None

        def work() -> None:
            if data:
                port.write(offset, data)
            else:
                port.zero(offset, length)

        def done(outcome: Outcome) -> None:
            then(None if outcome.error is None else f"Error writing to device {name}")

        self._system.disks.executor.do(work, done)


def _written_at_once(node: BlockNode) -> int:
    """QEMU writes whole clusters, or pieces, so that a disk that is no multiple of them is refused in the end."""
    content = unfiltered(node).content
    return content.header.cluster_size if isinstance(content, Qcow2Content) else PIECE
