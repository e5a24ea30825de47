"""Opening the nodes of the block graph, and what they contain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qmpd.block import changes, option_rules
from qmpd.block.attaching import attach, attach_too, detach
from qmpd.block.drivers import strangers
from qmpd.block.drivers.table import DRIVERS, MODULES
from qmpd.block.filenames import of_file, parse, probe_bytes
from qmpd.block.files import beside, kind_of
from qmpd.block.flat import Flat, flatten
from qmpd.block.flat_options import Structured, Undeclared, structured
from qmpd.block.images.errors import ImageError
from qmpd.block.making import MADE, content_of
from qmpd.block.nodes import BlockNode
from qmpd.block.permissions import check_child
from qmpd.block.placing import note_demands
from qmpd.block.room import have_room
from qmpd.block.transactions import refusal_of
from qmpd.block.watching import Watched
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from qmpd.block.drivers.table import Driver
    from qmpd.block.graph import BlockGraph

    Options = Mapping[str, Any]

# So many take less than the moment for which the main loop may be away.
_DEEPEST = 100
# Whose heir a node is whose parent is not there yet.
_UNBORN = "?"
# The children that are opened without a look at their format where no driver is told.
_PROTOCOL_ROLES = frozenset({"file", "image", "raw", "data-file", "log"})
_HEAD = 512
FILES = ("file", "host_device", "host_cdrom")
_CACHE = ("direct", "no-flush")
# What a node below another takes from it, where it is not told otherwise.
_INHERITED = ("read-only", "auto-read-only", "force-share")
# Options that are every node's; the others are its driver's.
_COMMON = frozenset({
    "driver", "node-name", "read-only", "auto-read-only", "cache", "detect-zeroes", "discard", "force-share",
})  # fmt: skip


class Opener:
    """Opens nodes of one graph."""

    __slots__ = ("_depth", "_graph", "_within")

    def __init__(self, graph: BlockGraph) -> None:
        self._graph = graph
        # How many nodes are being opened, each for the one above it, and how many of those describe the next one.
        self._depth = self._within = 0

    def open(self, options: Options, *, owned: bool = False, bare: bool = False) -> BlockNode:
        """Open a node and what is below it, and put them into the graph.

        `bare`: where it is told flat, and no driver is told, it is the file itself, and no format is looked for.

        :raise Refusal: it cannot be opened.
        """
        self._depth += 1
        try:
            have_room(len(self._graph.nodes) + self._depth)
            return self._open(options, owned=owned, bare=bare)
        finally:
            self._depth -= 1

    def _open(self, options: Options, *, owned: bool, bare: bool) -> BlockNode:
        unknown: list[str] = []
        visited: dict[str, Any] | None = None
        probed = not bare and not isinstance(options.get("driver"), str)
        if isinstance(options, Flat):
            options, unknown, visited = self._structured(options, bare=bare)
        elif "driver" not in options:
            options = self._probed(options)
        name = cast("str", options["driver"])
        driver = self._driver(name, options)
        if "filename" in options and "file" in driver.children and "file" not in options:
            # A format that was given a file's name.
            rest = {key: value for key, value in options.items() if key != "filename"}
            options = {**rest, "file": parse(str(options["filename"]), self._graph.json_parser)}
        children: dict[str, BlockNode] = {}
        place: int | None = None
        failure = changes.CHILD_FAILS
        node: BlockNode | None = None
        try:
            references = self._references(name, options)
            if references and references[0][0] == "file" and (visited is None or "file" in visited):
                # What is below a format comes first: QEMU opens it to look at what it is.
                children["file"] = self._child(*references.pop(0), options)
            if visited is not None:
                found = (self._graph.declared or Undeclared()).visit_all(name, visited)
                options = {**{key: value for key, value in found.items() if key not in driver.children}, **options}
            failure = changes.cost_of_name(is_protocol=driver.is_protocol or not children)
            node = self._prepare(name, options, owned=owned)
            node.probed = probed
            # The driver opens its other children itself, once the node is there.
            place = len(self._graph.nodes) if references else None
            option_rules.check_first(node, options, self._graph)
            failure = changes.CHILD_FAILS
            for role, reference in references:
                if reference == node.name and node.name:
                    raise Refusal("reopen-cycle", child=node.name, role=role, node=node.name)
                children[role] = self._child(role, reference, options)
            failure = changes.cost_of_lock(is_protocol=driver.is_protocol or not children)
            # The name is used up even where the node cannot be opened.
            node.name = node.name or self._graph.new_name()
            node.children = children
            for role, child in children.items():
                check_child(node, role, child, refused=self._graph.inactive_children_refused)
            attach(node)
            failure = changes.cost_of_name(is_protocol=driver.is_protocol or not children)
            option_rules.check(name, options, self._graph)
            failure = changes.cost_of_failure(is_protocol=driver.is_protocol or not children)
            node.content = self._content(node)
            option_rules.check_opened(node)
            node.port = Watched(node, self._graph)
            self._check_behind(name, options)
            if "full-backing-filename" in node.image:
                unknown = [each for each in unknown if each != "backing"]
            self._check_left(name, options, unknown)
        except Refusal:
            self._undo(node, children, failure, is_protocol=driver.is_protocol)
            raise
        self._graph.add(node)
        self._graph.changed(changes.cost_of_opening(is_protocol=driver.is_protocol, children=len(children)))
        self._looked_at(children.get("file"), is_protocol=driver.is_protocol)
        if place is not None:
            self._graph.place(node, place)
        for child in children.values():
            if child.heir_of == _UNBORN:
                child.heir_of = node.name
            if child.described_by == _UNBORN:
                child.described_by = node.name
        if name in ("qcow2", "qed"):
            self._open_backing(node, options)
        if name == "qcow2":
            self._load_bitmaps(node)
        return node

    def _driver(self, name: str, options: Options) -> Driver:
        """The driver of this name.

        :raise Refusal: there is none, or it is not modelled.
        """
        driver, declared = DRIVERS.get(name), self._graph.declared
        if name in MODULES or (declared is not None and declared.members(name) == {}):
            raise Refusal("driver-unknown", driver=name)
        if driver is not None and name in MADE:
            return driver
        strangers.check(name, options, self._graph.computer)
        raise NotModelled(f"block driver {name}")

    def _structured(self, flat: Flat, *, bare: bool) -> Structured:
        """Options that are told flat, as a tree, with their driver, and those that it does not know.

        :raise Refusal: they name nothing, or contradict each other.
        """
        flat = Flat(flat, flat.reference)
        if flat.reference is not None:
            raise MachineError("Cannot reference an existing block device with additional options or a new filename")
        name, filename = flat.get("driver"), flat.get("filename")
        below: object = None
        if not isinstance(name, str):
            if bare and isinstance(filename, str):
                name = kind_of(filename)
            else:
                below = None if bare else flat.take("file")
                if below is None:
                    raise MachineError("Must specify either driver or file")
                probed = self._probed(Flat({"file": below, **_common_of(flat)}))
                name, below = probed["driver"], probed["file"]
            flat["driver"] = name
        self._driver(name, flat)
        found = structured(flat, name, self._graph.declared or Undeclared())
        return found._replace(options={**found.options, **({} if below is None else {"file": below})})

    def _undo(
        self, node: BlockNode | None, children: dict[str, BlockNode], failure: int, *, is_protocol: bool
    ) -> None:  # fmt: skip
        """A node could not be opened: let go of what is below, after so many changes of the graph."""
        self._graph.changed(failure - 1)
        with changes.changing(self._graph.blockers):
            if node is not None:
                detach(node)
            for child in children.values():
                self._graph.release(child)
        self._looked_at(children.get("file"), is_protocol=is_protocol)

    def _looked_at(self, file: BlockNode | None, *, is_protocol: bool) -> None:
        """What is below a format was looked at, by a user who is gone now."""
        if file is not None and not is_protocol and file.name in self._graph.nodes:
            self._graph.quiet(file)

    def _load_bitmaps(self, node: BlockNode) -> None:
        if node.inactive or node.content.header.bitmaps is None:  # type: ignore[union-attr]
            return  # the bitmaps of an inactive node are another machine's
        from qmpd.block.bitmaps import stored

        try:
            stored.load(node)
        except (ImageError, OSError) as error:
            self._graph.release(node, always=True)
            raise refusal_of(error) from None

    def _check_behind(self, driver: str, options: Options) -> None:
        """Refuse to have something behind what cannot have it."""
        if options.get("backing") not in (None, "") and "backing" not in DRIVERS[driver].children:
            raise Refusal("backing-unsupported")

    def _check_left(self, driver: str, options: Options, unknown: list[str]) -> None:
        """Refuse what the driver does not know (`-drive` and `json:` may say anything)."""
        known = None if self._graph.declared is None else self._graph.declared.members(driver)
        if known is None:
            return
        left = unknown[:1]
        for name in () if left else options:
            # Nothing behind it is what any driver can be told.
            is_known = name in _COMMON or name in known or name == "children"
            if not is_known and not (name == "backing" and options[name] in (None, "")):
                left.append(".".join(_first_leaf(name, options[name])))
        left += [f"cache.{member}" for member in options.get("cache") or () if member not in _CACHE]
        if left:
            is_protocol = DRIVERS[driver].is_protocol and driver != "quorum"
            code = "drive-protocol-option" if is_protocol else "drive-format-option"
            raise Refusal(code, driver=driver, name=left[0])

    @staticmethod
    def _references(driver: str, options: Options) -> list[tuple[str, object]]:
        """The children that are opened first, and what they are said to be; None where nothing is said."""
        if driver == "quorum":
            return [(f"children.{number}", each) for number, each in enumerate(options["children"])]
        roles = DRIVERS[driver].children
        found: list[tuple[str, object]] = []
        for role in roles:
            if role == "backing" or (role == "data-file" and options.get(role) is None):
                continue
            found.append((role, options.get(role)))
        return found

    def _content(self, node: BlockNode) -> Any:
        try:
            self._find_data_file(node)
            return content_of(node, self._graph)
        except ImageError as error:
            raise MachineError(error.message) from None
        except OSError as error:
            raise MachineError(f"Could not read '{_called(node)}': {error.strerror}") from None

    def _find_data_file(self, node: BlockNode) -> None:
        """Open the external data file that an image names, where nobody has given one."""
        if node.driver != "qcow2" or "data-file" in node.children:
            return
        from qmpd.block.images.qcow2 import layout
        from qmpd.block.images.qcow2.header import read_header

        file = node.children["file"]
        assert file.port is not None
        header = read_header(file.port, read_only=node.read_only)
        if not header.incompatible & layout.DATA_FILE:
            return
        if header.data_file is None:
            raise MachineError("'data-file' is required for this image")
        filename = beside(file.exact_name, header.data_file.decode(errors="surrogateescape"))
        common = {"read-only": node.read_only}
        child = self._child("data-file", parse(filename, self._graph.json_parser), common)
        attach_too(node, "data-file", child)

    def _prepare(self, driver: str, options: Options, *, owned: bool) -> BlockNode:
        """A node that is not open yet.

        :raise MachineError: what every node can be told is wrong.
        """
        option_rules.check_common(driver, options)
        check_zeroes(options)
        name = options.get("node-name")
        if name is not None:
            self._graph.check_name(name)
        node = BlockNode(name or "", driver, owned=owned, inactive=self._graph.inactive)
        note_demands(self._graph, node)
        return apply_common(node, options)

    def _probed(self, options: Options) -> dict[str, Any]:
        """Options that tell no driver, with the format that what is below them has.

        :raise Refusal: nothing is below, or it cannot be opened.
        """
        found = dict(options)
        if "file" not in found:
            filename = found.pop("filename", None)
            if filename is None:
                raise MachineError("Must specify either driver or file")
            found["file"] = parse(str(filename), self._graph.json_parser)
        try:
            file = self._child("file", found["file"], options)
        except Refusal:
            self._graph.changed(changes.CHILD_FAILS)
            raise
        assert file.port is not None
        try:
            head = file.port.read(0, _HEAD)
        except (OSError, ImageError):
            head = b""
        return {**found, "driver": probe_bytes(head), "file": file}

    def _child(self, role: str, reference: object, parent: Options) -> BlockNode:
        """The node that a reference names, or that it describes."""
        if isinstance(reference, BlockNode):
            return reference
        if reference is None:
            raise MachineError(f'A block device must be specified for "{role}"')
        if isinstance(reference, str):
            return self._graph.find(reference)
        self._within += 1
        try:
            if self._within > _DEEPEST:
                raise NotModelled(f"more than {_DEEPEST} nodes described within each other")
            return self._described_child(role, reference, parent)
        finally:
            self._within -= 1

    def _described_child(self, role: str, reference: object, parent: Options) -> BlockNode:
        if isinstance(reference, Flat):
            return self._flat_child(role, reference, parent)
        options = cast("dict[str, Any]", reference)
        inherited = {name: parent[name] for name in _INHERITED if name in parent and name not in options}
        own = options.get("cache") or {}
        cache = {name: value for name, value in (parent.get("cache") or {}).items() if name in _CACHE} | own
        whole = {"discard": "unmap", **inherited, **options, **({"cache": cache} if cache else {})}
        if "driver" not in whole and role in _PROTOCOL_ROLES and "filename" in whole:
            # No protocol is looked for in a name that was given as an option.
            whole["driver"] = kind_of(str(whole["filename"]))
        return self._born(self.open(whole), own, is_heir="read-only" not in options)

    def _flat_child(self, role: str, flat: Flat, parent: Options) -> BlockNode:
        whole = Flat({"discard": "unmap", **_common_of(parent), **flat}, flat.reference)
        child = self.open(whole, bare=role in _PROTOCOL_ROLES)
        own = [name for name in _CACHE if f"cache.{name}" in flat]
        return self._born(child, own, is_heir="read-only" not in flat)

    @staticmethod
    def _born(child: BlockNode, own: Iterable[str], *, is_heir: bool) -> BlockNode:
        """A child that its parent does not have yet; `own` are the modes of its cache that it was told itself."""
        child.own_cache = frozenset(own)
        if is_heir:
            child.heir_of = _UNBORN
        child.described_by = _UNBORN
        return child

    def _open_backing(self, node: BlockNode, options: Options) -> None:
        recorded = node.image.get("full-backing-filename")
        reference = options.get("backing", recorded)
        if reference is None:
            return
        inherited = {"read-only": True, **{each: options[each] for each in ("cache",) if each in options}}
        # What an image tells is described nowhere.
        within, self._within = self._within, self._within if "backing" in options else 0
        try:
            if isinstance(reference, Flat):
                reference = self._backing(node, reference)
            elif recorded is not None and ("backing" not in options or _names_nothing(reference)):
                given = {} if "backing" not in options else cast("dict[str, Any]", reference)
                kind = None if "driver" in given else node.image.get("backing-filename-format")
                of_image = of_file(str(recorded), kind, read_only=True, json_parser=self._graph.json_parser)
                if isinstance(of_image, Flat):
                    reference = Flat({**of_image, **flatten(given)})
                else:
                    reference = {**of_image, **given}
                    if "file" in of_image:
                        reference["file"] = {**of_image["file"], **given.get("file", {})}
            child = self._child("backing", reference, inherited)
        except Refusal as error:
            self._graph.changed_as("backing-not-opened")
            self._graph.release(node, always=True)
            raise Refusal("backing-not-opened", why=error) from None
        finally:
            self._within = within
        self._graph.changed()
        try:
            check_child(node, "backing", child, refused=self._graph.inactive_children_refused)
            self._graph.set_backing(node, child)
            node.backing_as_recorded = "backing" not in options
            if child.described_by == _UNBORN:
                child.described_by = node.name
        except Refusal:
            self._graph.release(node, always=True)
            raise

    def _backing(self, node: BlockNode, given: Flat) -> Flat:
        """What is behind a node, with what its image says of that."""
        recorded = node.image.get("full-backing-filename")
        if given.reference is not None or recorded is None or "file.filename" in given:
            return given
        told = given.get("driver")
        kind = told if isinstance(told, str) else node.image.get("backing-filename-format")
        is_file = kind in DRIVERS and DRIVERS[kind].is_protocol
        if is_file:
            return Flat({"driver": kind, "filename": str(recorded), "read-only": True, **given})
        of_image = of_file(str(recorded), kind, read_only=True, json_parser=self._graph.json_parser)
        return Flat({**flatten(of_image), **given})


def open_backing(graph: BlockGraph, target: BlockNode) -> None:
    """Open what an image says is behind it, where nothing is yet.

    :raise Refusal: it cannot be opened.
    """
    recorded = target.image.get("full-backing-filename")
    if recorded is None or "backing" in target.children:
        return
    options = of_file(
        str(recorded), target.image.get("backing-filename-format"), read_only=True, json_parser=graph.json_parser
    )
    graph.set_backing(target, Opener(graph).open(options))
    target.backing_as_recorded = True


def _common_of(options: Options) -> dict[str, Any]:
    """What a node below one with these options takes from it, flat."""
    found = {name: options[name] for name in _INHERITED if name in options}
    if isinstance(options, Flat):
        return found | {name: options[name] for name in options if name.startswith("cache.")}
    cache = options.get("cache") or {}
    return found | {f"cache.{name}": value for name, value in cache.items() if name in _CACHE}


def _names_nothing(reference: object) -> bool:
    """Whether options of a node do not tell what it is made of."""
    if not isinstance(reference, dict):
        return False
    file = reference.get("file", {})
    return "filename" not in reference and isinstance(file, dict) and not {"filename", "driver"} & file.keys()


def _first_leaf(name: str, value: object) -> list[str]:
    """An option's name with those of its members, down to the first that has none."""
    if not isinstance(value, dict) or not value:
        return [name]
    member = next(iter(value))
    return [name, *_first_leaf(member, value[member])]


def _called(node: BlockNode) -> str:
    """What a node that cannot be read is called."""
    file = node.children.get("file")
    return node.exact_name if file is None else file.exact_name


def check_zeroes(options: Options) -> None:
    """Refuse to give back the room of zeros where nothing gives back room.

    :raise MachineError: that is asked for.
    """
    if options.get("detect-zeroes") == "unmap" and options.get("discard") not in ("unmap", "on"):
        raise MachineError("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap")


def apply_common(node: BlockNode, options: Options) -> BlockNode:
    """Give a node what every node can be told, and keep what its driver was told."""
    cache = options.get("cache") or {}
    node.read_only = bool(options.get("read-only"))
    node.auto_read_only = bool(options.get("auto-read-only"))
    node.detect_zeroes = options.get("detect-zeroes", "off")
    node.discard = "unmap" if options.get("discard") in ("unmap", "on") else "ignore"
    node.own_cache = frozenset(cache)
    node.direct = bool(cache.get("direct"))
    node.no_flush = bool(cache.get("no-flush"))
    node.force_share = bool(options.get("force-share"))
    roles = {*DRIVERS[node.driver].children, "children"} | _COMMON
    node.options = {name: value for name, value in options.items() if name not in roles}
    return node
