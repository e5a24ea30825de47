"""The dirty bitmaps of a machine's disks, as they go along when it moves (`dirty-bitmaps`).

All are named first, as the migration begins; then nobody else works with one of them, at neither side, until it is
there.  What is in each comes as the machine switches over, or behind it (postcopy).  What is written at the other side
before that goes to a successor.  Where the parameter `block-bitmap-mapping` is set nodes and bitmaps are called as it
says, and others do not go along.  (QEMU's migration/block-dirty-bitmap.c.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from qmpd.block.bitmaps import rules
from qmpd.block.bitmaps.bitmap import DirtyBitmap
from qmpd.block.jobs.chain import unfiltered
from qmpd.common.refusals import Worded
from qmpd.migration import bitmap_names
from qmpd.migration.bitmaps import Content
from qmpd.migration.stream import BadStream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode
    from qmpd.hardware.inventory import Inventory
    from qmpd.machine import Machine
    from qmpd.qapi.migration import Course

    class System(Protocol):
        """A whole machine (`qmpd.system.system.System`)."""

        built: Inventory | None

        @property
        def machine(self) -> Machine:
            """Its run-state core."""

        @property
        def inventory(self) -> Inventory:
            """What it consists of."""

    Mappings = Sequence[Mapping[str, Any]] | None

# A piece that goes at once: so many bytes of a bitmap, behind a head of about so many; one of zeros is a head alone.
_PIECE, _HEAD = 1024, 16
_BITS = 8


class Settings(Protocol):
    """What was set for a machine's migrations (`qmpd.system.migrations.Migrations`)."""

    @property
    def course(self) -> Course:
        """How its release's migrations go."""

    def parameter(self, name: str) -> Any:
        """The value of a parameter."""


def leaving(system: System, settings: Settings) -> LeavingBitmaps | None:
    """Those that go along, from now on; None where there are no disks.

    :raise Refusal: one cannot.
    """
    built = system.built
    return None if built is None else LeavingBitmaps(built.backends.block, settings.parameter(bitmap_names.PARAMETER))


class LeavingBitmaps:
    """Those of a machine that goes."""

    def __init__(self, graph: BlockGraph, mappings: Mappings) -> None:
        """From now on nobody else works with those that go along.

        :raise Refusal: somebody works with one of a node that is meant, or it cannot be used, be it left out or not; or
            the name of one is too long, or nobody has given its node a name.
        """
        for node, called in _nodes(graph, mappings):
            for bitmap in node.bitmaps if bitmap_names.is_meant(mappings, called) else ():
                if bitmap.name is not None:
                    bitmap_names.check_node(mappings, called, bitmap.name)
                    rules.check(bitmap)
                    bitmap_names.check_outward(mappings, called, bitmap.name)
        self._going = list(_going(graph, mappings))
        for bitmap, _, _ in self._going:
            bitmap.busy = True

    @property
    def size(self) -> int:
        """How many bytes they have, if none of them is left out."""
        return sum(_size(bitmap) for bitmap, _, _ in self._going)

    def heads(self) -> list[list[Any]]:
        """What there is to come: what the node of each is called, and what it is but for its content."""
        return [
            [called, {**bitmap.snapshot(), **changed, "areas": [], "busy": False}]
            for bitmap, called, changed in self._going
        ]

    def contents(self) -> Iterator[Content]:
        """What is in them, one after another, as it is now: the names of node and bitmap, and what is dirty."""
        for bitmap, called, changed in self._going:
            areas = [list(area) for area in bitmap.areas()]
            yield Content([called, changed["name"], areas], _size(bitmap), _bytes_on_the_way(bitmap, areas))

    def are_stored(self, really: bool) -> None:
        """Whether they are stored in their images; once these are this machine's again they are, whatever was said."""
        for bitmap, _, _ in self._going:
            bitmap.stored = really

    def release(self) -> None:
        """The migration is over, whatever came of it."""
        for bitmap, _, _ in self._going:
            bitmap.busy = False
        self._going.clear()


def _size(bitmap: DirtyBitmap) -> int:
    return -(-bitmap.bits // _BITS)


def _bytes_on_the_way(bitmap: DirtyBitmap, areas: list[list[int]]) -> int:
    piece = bitmap.granularity * _PIECE * _BITS
    dirty = {place for begin, end in areas for place in (begin // piece, (end - 1) // piece)}
    between = sum(max(0, (end - 1) // piece - begin // piece - 1) for begin, end in areas)
    return -(-bitmap.size // piece) * _HEAD + (len(dirty) + between) * _PIECE


def _nodes(graph: BlockGraph, mappings: Mappings) -> Iterator[tuple[BlockNode, str]]:
    """The nodes, each with its name; where no mapping has that, with the name of the drive that it is in."""
    drives: dict[str, str] = {}
    if mappings is None:
        found = [each for each in graph.drives if each.name and each.role == "root"]
        drives = {unfiltered(each.node).name: each.name for each in found if each.node is not None}
    for node in graph.nodes.values():
        yield node, drives.get(node.name, node.name)


def _going(graph: BlockGraph, mappings: Mappings) -> Iterator[tuple[DirtyBitmap, str, dict[str, Any]]]:
    """The bitmaps that go along, with what their node is called on the way, and what they are there otherwise."""
    for node, own in _nodes(graph, mappings):
        for bitmap in node.bitmaps:
            if bitmap.name is not None:
                way = bitmap_names.outward(mappings, own, bitmap.name)
                if way is not None:
                    called, name, transform = way
                    yield bitmap, called, {"name": name, **transform}


class ArrivingBitmaps:
    """Those of a machine that comes.  Where one of them has no place here none comes, and that is told."""

    def __init__(self, system: System, settings: Settings) -> None:
        self._system = system
        self._settings = settings
        # By what node and bitmap are called on the way, those that are not whole; whether each is to note writes.
        self._awaited: dict[tuple[str, str], tuple[BlockNode, DirtyBitmap, bool]] = {}
        # Those that are whole, and are to note writes once the machine goes on.
        self._whole: list[DirtyBitmap] = []
        self._goes_on = False

    def begin(self, heads: Any) -> None:
        """These will come.

        :raise BadStream: a node has a bitmap of that name, or these are none.
        """
        graph, mappings = self._system.inventory.backends.block, self._settings.parameter(bitmap_names.PARAMETER)
        try:
            for called, plain in heads:
                self._begin(graph, called, plain, mappings)
        except Worded as error:
            self._system.machine.report(error.message)
            self.drop()
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise BadStream(f"error while loading state: {error!r}") from None

    def _begin(self, graph: BlockGraph, called: str, plain: Mapping[str, Any], mappings: Mappings) -> None:
        own, name, transform = bitmap_names.inward(mappings, called, plain["name"])
        node = graph.look_up(own if mappings is None else None, own)
        if any(each.name == name for each in node.bitmaps):
            raise BadStream(f"Bitmap already exists: {name}")
        bitmap = DirtyBitmap.restore({**plain, **transform, "name": name})
        node.bitmaps.insert(0, bitmap)
        notes = bitmap.enabled
        bitmap.enabled = False
        if notes:
            rules.freeze(node, bitmap)
        bitmap.is_awaited = True
        bitmap.busy = notes or self._settings.course.bitmaps_locked
        self._awaited[str(called), str(plain["name"])] = node, bitmap, notes

    def take(self, value: Any) -> None:
        """What is in one of them has come.

        :raise BadStream: it is nothing of that kind.
        """
        try:
            called, name, areas = value
            found = self._awaited.pop((called, name), None)
            if found is None:
                return  # it has no place here
            node, bitmap, notes = found
            for begin, end in areas:
                bitmap.set(begin, end - begin)
        except (ValueError, TypeError) as error:
            raise BadStream(f"error while loading state: {error!r}") from None
        rules.thaw(node, bitmap)
        bitmap.busy = bitmap.is_awaited = False
        bitmap.enabled = notes and self._goes_on
        if notes:
            self._whole.append(bitmap)

    def go_on(self) -> None:
        """The machine goes on, and what it writes is noted."""
        self._goes_on = True
        for bitmap in self._whole:
            bitmap.enabled = True
        for _, bitmap, _ in self._awaited.values():
            if bitmap.successor is not None:
                bitmap.successor.enabled = True

    def drop(self) -> None:
        """Those that are not whole do not come any more."""
        for node, bitmap, _ in self._awaited.values():
            rules.thaw(node, bitmap)
            rules.release(node, bitmap)
        self._awaited.clear()
