"""What the options of a node's driver may be, and which go together: what the drivers of QEMU's block/ refuse.

The texts were seen with QEMU 5.2 to 11.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.drivers.table import DRIVERS
from qmpd.block.values import is_on, number
from qmpd.common.refusals import Refusal
from qmpd.machine.errors import MachineError
from qmpd.option_language.key_values import BOOL, NUMBER, SIZE, check_flat_list

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qmpd.block.graph import BlockGraph
    from qmpd.block.nodes import BlockNode

    Options = Mapping[str, Any]

_SECTOR = 512
# Those that are given a file's name.
_NAMED = ("file", "host_device", "host_cdrom")
# What a file's options can be.
_CHOICES = {"aio": ("threads", "native", "io_uring"), "locking": ("auto", "on", "off")}
_DISCARD = ("ignore", "off", "unmap", "on")
_ZEROES = ("off", "on", "unmap")
_LARGEST_INT = (1 << 31) - 1
_LARGEST_LATENCY = (1 << 63) - 1
# The largest disk that there can be, in bytes.
_LARGEST = (1 << 63) - 1 - _SECTOR
# What a log may have as the size of its sectors.
_LOG_SECTORS = (32, 1 << 24)
_PREALLOCATE = ("prealloc-align", "prealloc-size")
_BLKDEBUG = ("align", "max-transfer", "opt-write-zero", "max-write-zero", "opt-discard", "max-discard")
_SIZES: dict[str, tuple[str, ...]] = {
    "qcow2": ("cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size"),
    "raw": ("offset", "size"),
    "blkdebug": _BLKDEBUG,
    "preallocate": _PREALLOCATE,
    "blklogwrites": ("log-sector-size",),
}
"""The options that are sizes, by driver: no negative number is one."""


_COMMON = {"read-only": BOOL, "auto-read-only": BOOL, "force-share": BOOL}
_CACHE = {"cache.direct": BOOL, "cache.no-flush": BOOL}
_FILE = {"x-check-cache-dropped": BOOL, "drop-cache": BOOL, "aio-max-batch": NUMBER}
_NULL = {"read-zeroes": BOOL, "size": SIZE, "latency-ns": NUMBER}
_TYPES: dict[str, dict[str, str]] = {
    **dict.fromkeys(_NAMED, _FILE),
    "null-co": _NULL,
    "null-aio": _NULL,
    "quorum": {"vote-threshold": NUMBER, "blkverify": BOOL, "rewrite-corrupted": BOOL},
    "nbd": {"reconnect-delay": NUMBER, "open-timeout": NUMBER},
    "blklogwrites": {"log-append": BOOL, "log-super-update-interval": NUMBER},
}
"""The types of other options."""


def check_common(driver: str, options: Options) -> None:
    """Look at what every node can be told, before it gets its name.

    :raise Refusal: it cannot be.
    """
    check_values(options)
    if options.get("force-share") and not options.get("read-only"):
        raise MachineError("force-share=on can only be used with read-only images")
    if driver in _NAMED and not options.get("filename"):
        raise Refusal("file-name-needed", driver=driver)
    check_choices(options)


def check_values(options: Options) -> None:
    """Look at the types of what every node can be told.

    :raise Refusal: a value is of another one.
    """
    _check_texts(options, _COMMON)
    _check_texts({f"cache.{name}": value for name, value in (options.get("cache") or {}).items()}, _CACHE)


def check_choices(options: Options) -> None:
    """Look at those that are one of several words.

    :raise Refusal: one is none of them.
    """
    if options.get("discard", "off") not in _DISCARD:
        raise Refusal("drive-discard")
    if options.get("detect-zeroes", "off") not in _ZEROES:
        raise Refusal("value-invalid", value=options["detect-zeroes"])


def check_first(node: BlockNode, options: Options, graph: BlockGraph) -> None:
    """Look at the options of a node whose driver does so before it opens anything.

    :raise Refusal: they cannot be.
    """
    if node.driver == "quorum":
        check(node.driver, options, graph)
    elif node.driver == "blkdebug":
        from qmpd.block.drivers.blkdebug import read_rules

        # They may come through a pipe, which can be read but once.
        node.ahead = read_rules(options)


def check(driver: str, options: Options, graph: BlockGraph) -> None:
    """Look at options before a node is opened; what is below it is open.

    :raise Refusal: they cannot be.
    """
    for name in _SIZES.get(driver, ()):
        value = options.get(name)
        if isinstance(value, int) and value < 0:
            raise Refusal("size-negative", name=name, value=value)
    _check_texts(options, {**_TYPES.get(driver, {}), **dict.fromkeys(_SIZES.get(driver, ()), SIZE)})
    rule = _RULES.get(driver)
    if rule is not None:
        rule(options, graph)


def _check_texts(options: Options, types: Mapping[str, str]) -> None:
    """Refuse texts, which doors take that know no types, where they are not of the option's."""
    for name, kind in types.items():
        value = options.get(name)
        if isinstance(value, str):
            check_flat_list([(name, value)], {name: kind})


def _file(options: Options, graph: BlockGraph) -> None:
    for name, choices in _CHOICES.items():
        if options.get(name, choices[0]) not in choices:
            raise Refusal("value-invalid", value=options[name])
    manager = options.get("pr-manager")
    if manager is not None and not graph.has_object(str(manager), "pr-manager-helper"):
        raise MachineError(f"No persistent reservation manager with id '{manager}'")


def _null(options: Options, graph: BlockGraph) -> None:
    if not 0 <= number(options.get("latency-ns", 0)) <= _LARGEST_LATENCY:
        raise Refusal("null-latency")
    # QEMU ends itself at a negative one.
    if not 0 <= number(options.get("size", 0)) <= _LARGEST:
        raise MachineError("Could not refresh total sector count: File too large")


def _throttle(options: Options, graph: BlockGraph) -> None:
    if not options.get("throttle-group"):
        raise MachineError("Please specify a throttle group")
    graph.check_group(str(options["throttle-group"]))


def _raw(options: Options, graph: BlockGraph) -> None:
    if number(options.get("size", 0)) % _SECTOR:
        raise MachineError("Specified size is not multiple of 512")


def _copy_on_read(options: Options, graph: BlockGraph) -> None:
    bottom = options.get("bottom")
    if bottom is None:
        return
    if str(bottom) not in graph.nodes:
        raise MachineError(f"Bottom node '{bottom}' not found")


def _copy_before_write(options: Options, graph: BlockGraph) -> None:
    smallest = options.get("min-cluster-size")
    if smallest is not None and not _is_power(number(smallest)):
        raise MachineError("Cannot create block-copy-state: min-cluster-size needs to be a power of 2")


def _preallocate(options: Options, graph: BlockGraph) -> None:
    if number(options.get("prealloc-align", 0)) % _SECTOR:
        raise MachineError("prealloc-align parameter of preallocate filter is not aligned to 512")


def _blkdebug(options: Options, graph: BlockGraph) -> None:
    align = number(options.get("align", 0))
    if align and (align >= _LARGEST_INT or not _is_power(align)):
        raise MachineError(f"Cannot meet constraints with align {align}")
    for most, least in (
        ("max-transfer", None), ("opt-write-zero", None), ("max-write-zero", "opt-write-zero"),
        ("opt-discard", None), ("max-discard", "opt-discard"),
    ):  # fmt: skip
        value = number(options.get(most, 0))
        unit = max(align, number(options.get(least, 0)) if least else 0, 1)
        if value and (value >= _LARGEST_INT or value % unit):
            raise MachineError(f"Cannot meet constraints with {most} {value}")


def _blklogwrites(options: Options, graph: BlockGraph) -> None:
    if is_on(options.get("log-append")):
        if options.get("log-sector-size") is not None:
            raise MachineError("log-append and log-sector-size are mutually exclusive")
    else:
        size = number(options.get("log-sector-size", _SECTOR))
        if not _is_power(size) or not _LOG_SECTORS[0] <= size < _LOG_SECTORS[1]:
            raise MachineError(f"Invalid log sector size {size}")
    interval = options.get("log-super-update-interval")
    if interval is not None and not number(interval):
        raise MachineError("Invalid log superblock update interval 0")


def _quorum(options: Options, graph: BlockGraph) -> None:
    count, threshold = len(options["children"]), number(options.get("vote-threshold", 0))
    if count == 0:
        raise MachineError("Number of provided children must be 1 or more")
    if threshold < 1:
        raise Refusal("quorum-threshold")
    if threshold > count:
        raise MachineError("threshold may not exceed children count")
    if options.get("read-pattern", "quorum") not in ("quorum", "fifo"):
        raise MachineError("Please set read-pattern as fifo or quorum")
    if options.get("read-pattern", "quorum") != "quorum" or not is_on(options.get("blkverify")):
        return
    if count != 2 or threshold != 2:
        raise MachineError("blkverify=on can only be set if there are exactly two files and vote-threshold is 2")
    if is_on(options.get("rewrite-corrupted")):
        raise MachineError("rewrite-corrupted=on cannot be used with blkverify=on")


def _is_power(value: int) -> bool:
    return value > 0 and not value & (value - 1)


_RULES: dict[str, Callable[[Options, BlockGraph], None]] = {
    "file": _file,
    "host_device": _file,
    "host_cdrom": _file,
    "null-co": _null,
    "null-aio": _null,
    "throttle": _throttle,
    "raw": _raw,
    "copy-on-read": _copy_on_read,
    "copy-before-write": _copy_before_write,
    "preallocate": _preallocate,
    "blkdebug": _blkdebug,
    "blklogwrites": _blklogwrites,
    "quorum": _quorum,
}


def check_opened(node: BlockNode) -> None:
    """Look at the options of a node whose content is open.

    :raise MachineError: they do not go with it.
    """
    if node.driver in _NAMED and node.options.get("aio") == "native" and not node.direct:
        raise Refusal("aio-native")
    if node.driver == "copy-on-read" and node.options.get("bottom") is not None:
        _check_bottom(node, str(node.options["bottom"]))
    elif node.driver == "quorum" and len({child.size for child in node.children.values()}) > 1:
        raise MachineError("Could not refresh total sector count: Input/output error")


def _check_bottom(node: BlockNode, bottom: str) -> None:
    at: BlockNode | None = node.children["file"]
    while at is not None and at.name != bottom:
        at = at.children.get("backing") or at.children.get(DRIVERS[at.driver].first)
    if at is None:
        # QEMU ends itself here.
        raise MachineError(f"Bottom node '{bottom}' not found")
