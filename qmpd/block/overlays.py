"""Overlays: a node on top of another, to which its users write from then on.  (QEMU's blockdev.c, external snapshots.)

What was there before is behind the new node, and is read-only from then on.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from qmpd.block.activation import share_activity
from qmpd.block.blockers import check_unblocked
from qmpd.block.changes import changing
from qmpd.block.content import text_of
from qmpd.block.creating import NewImage
from qmpd.block.description import filename_of
from qmpd.block.drivers.formats import Layered
from qmpd.block.drivers.table import DRIVERS
from qmpd.block.filenames import of_file, with_defaults
from qmpd.block.files import READ
from qmpd.block.images.errors import ImageError
from qmpd.block.making import content_of
from qmpd.block.nodes import below
from qmpd.block.opening import Opener
from qmpd.block.permissions import cumulative, refresh
from qmpd.block.placing import move, reaches
from qmpd.block.reopening import reopen
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Mapping

    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode
    from qmpd.block.transactions import Steps

    Opening = Generator[Callable[[], Any], Any, BlockNode]
    """Steps that give a node in the end."""

_WITH_BACKING = ("qcow2", "qed")


class Overlay:
    """Puts a node on top of another (QMP `blockdev-snapshot`); the base of those that make that node first."""

    def __init__(self, graph: BlockGraph, arguments: Mapping[str, Any]) -> None:
        """`arguments` are the command's."""
        self._graph = graph
        self._arguments = arguments
        self._old: BlockNode | None = None
        self._new: BlockNode | None = None
        self._is_on_top = False
        # Nothing goes on at the old node meanwhile.
        self._drain: Any = None

    def prepare(self) -> Steps | None:
        """:raise Refusal: one of the two is not there, is in use, or can be no such node."""
        return self._prepare()

    def _prepare(self) -> Steps:
        old = self._old = self._find()
        self._drain = self._graph.begin_drain(old)
        try:
            yield from self._put_on(old)
        except BaseException:
            self._graph.end_drain(self._drain)
            raise

    def _put_on(self, old: BlockNode) -> Steps:
        self._graph.check_free(old)
        check_unblocked(old)
        if not old.read_only and old.port is not None:
            flush = old.port.flush
            try:
                yield flush
            except (OSError, ImageError):
                raise MachineError("An IO error has occurred") from None
        new = yield from self._open(old)
        self._new = new
        try:
            self._check(new)
            self._graph.changed()
            put_on_top(self._graph, new, old)
        except Refusal:
            self._let_go(new)
            raise
        self._is_on_top = True

    def _find(self) -> BlockNode:
        name = str(self._arguments["node"])
        return self._graph.look_up(name, name)

    def _open(self, old: BlockNode) -> Opening:
        name = str(self._arguments["overlay"])
        yield from ()
        return self._graph.look_up(name, name)

    @staticmethod
    def _check(new: BlockNode) -> None:
        if cumulative(new)[0] & READ:
            raise MachineError("The overlay is already in use")
        if DRIVERS[new.driver].is_filter:
            raise MachineError("Filters cannot be used as overlays")
        if "backing" in new.children:
            raise MachineError("The overlay already has a backing image")
        if new.driver not in _WITH_BACKING:
            raise MachineError("The overlay does not support backing images")

    def commit(self) -> Steps | None:
        """What is behind is not written any more."""
        old, new = self._old, self._new
        assert old is not None
        assert new is not None
        self._graph.changed()
        with contextlib.suppress(Refusal):
            reopen(self._graph, [(old, {"read-only": True})], keep=True)
        new.backing_as_recorded = bool(new.recorded_backing) and new.recorded_backing == filename_of(old)
        self._graph.release(new)
        self._graph.end_drain(self._drain)
        return None

    def abort(self) -> Steps | None:
        """All is as it was; what was made on the disk stays there."""
        old, new = self._old, self._new
        assert old is not None
        assert new is not None
        if self._is_on_top:
            with changing(self._graph.blockers):
                self._graph.changed()
                take_from_top(self._graph, new, old)
        self._let_go(new)
        self._graph.end_drain(self._drain)
        return None

    def _let_go(self, new: BlockNode) -> None:
        self._graph.release(new)


class NewOverlay(Overlay):
    """Makes an image, or opens one that is there, and puts it on top (QMP `blockdev-snapshot-sync`)."""

    def __init__(
        self, graph: BlockGraph, arguments: Mapping[str, Any], drivers: Collection[str], tell: Callable[[str], None]
    ) -> None:
        """`drivers`: those that the release has; `tell` prints that an image is made."""
        super().__init__(graph, arguments)
        self._drivers = drivers
        self._tell = tell

    def _find(self) -> BlockNode:
        return self._graph.look_up(self._arguments.get("device"), self._arguments.get("node-name"))

    def _open(self, old: BlockNode) -> Opening:
        given = self._arguments
        name = given.get("snapshot-node-name")
        if given.get("node-name") is not None and name is None:
            raise Refusal("overlay-name-missing")
        if name is not None and self._graph.lookup(name) is not None:
            raise Refusal("overlay-name-taken")
        filename, kind = str(given["snapshot-file"]), str(given.get("format") or "qcow2")
        if (given.get("mode") or "absolute-paths") != "existing":
            image = NewImage(filename, kind, old.virtual_size, self._drivers, filename_of(old), old.driver)
            self._tell(image.announcement())
            try:
                yield image.make
            except OSError as error:
                raise MachineError(f"Could not create '{filename}': {text_of(error)}") from None
            image.note(self._graph)
        if kind not in self._drivers and kind != "raw":
            raise Refusal("driver-unknown", driver=kind)
        options = of_file(filename, kind, read_only=old.read_only, json_parser=self._graph.json_parser)
        cache = {"direct": old.direct, "no-flush": old.no_flush}
        options = with_defaults(options, {"discard": old.discard, "cache": cache})
        if name is not None:
            options["node-name"] = name
        options["backing"] = None
        new = Opener(self._graph).open(options)
        share_activity(new, old)
        return new


def put_on_top(graph: BlockGraph, new: BlockNode, old: BlockNode) -> None:
    """Have all users of `old` use `new` from now on, which has `old` behind it.  (QEMU's bdrv_append.)

    :raise Refusal: what they do excludes each other; all is as before then.
    """
    if reaches(old, new):
        raise MachineError(f"Making '{old.name}' a backing child of '{new.name}' would create a cycle")
    drives, parents = list(old.drives), [parent for parent in old.parents if parent is not new]
    move(old, new, drives, parents)
    # Nobody but the new node has it meanwhile.
    owned, old.owned = old.owned, True
    try:
        graph.set_backing(new, old)
        new.minds_backing = False
    except Refusal:
        move(new, old, drives, parents)
        refresh([old, new])
        raise
    finally:
        old.owned = owned
    for parent in parents:
        _follow(graph, parent)


def take_from_top(graph: BlockGraph, new: BlockNode, old: BlockNode) -> None:
    """Undo `put_on_top`."""
    owned, old.owned = old.owned, True
    drives, parents = list(new.drives), list(new.parents)
    graph.set_backing(new, None)
    move(new, old, drives, parents)
    refresh([old, new])
    for parent in parents:
        _follow(graph, parent)
    old.owned = owned


def _follow(graph: BlockGraph, parent: BlockNode) -> None:
    """What is in a node whose child is another one now reads and writes that one."""
    content = parent.content
    follow = getattr(content, "follow", None)
    if follow is not None:
        follow()
        return
    if not isinstance(content, Layered):
        parent.content = content_of(parent, graph)
        return
    if content.file is not parent.children["file"].port:
        content.move_to(below(parent))
    backing = parent.children.get("backing")
    content.set_backing(None if backing is None else backing.port)

