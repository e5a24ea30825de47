"""What the options of a drive mean, and which of them are refused (QEMU's blockdev.c): for `-drive` and `drive_add`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qmpd.block import accounting
from qmpd.block.drivers.strangers import check_folder
from qmpd.block.drivers.table import MODULES
from qmpd.block.filenames import NBD
from qmpd.block.limits import Limits
from qmpd.common.integers import from_digits, is_digits
from qmpd.common.refusals import Refusal
from qmpd.option_language import key_values
from qmpd.option_language.key_values import BOOL, NUMBER

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable

    from qmpd.common.computer import Computer

# In the order of QEMU's numbers for them.
INTERFACES = ("none", "ide", "scsi", "floppy", "pflash", "mtd", "sd", "virtio", "xen")
"""What a drive can be for."""

UNITS = {"ide": 2, "scsi": 7}
"""How many units a bus of an interface has, where that is no matter of the board."""

FILE_PROTOCOLS = ("file", "host_device", "host_cdrom")
"""What opens a file itself; no list has them."""

OWN = {
    "bus": NUMBER, "unit": NUMBER, "index": NUMBER, "media": "", "if": "", "file": "", "read-only": BOOL,
    "copy-on-read": BOOL, "rerror": "", "werror": "",
}  # fmt: skip
"""The options that are the drive's, and no node's, and their types; none for text."""

_RENAMED = {
    **{name: f"throttling.{name}-total" for name in ("iops", "bps")},
    **{f"{name}_rd": f"throttling.{name}-read" for name in ("iops", "bps")},
    **{f"{name}_wr": f"throttling.{name}-write" for name in ("iops", "bps")},
    **{f"{name}_max": f"throttling.{name}-total-max" for name in ("iops", "bps")},
    **{f"{name}_rd_max": f"throttling.{name}-read-max" for name in ("iops", "bps")},
    **{f"{name}_wr_max": f"throttling.{name}-write-max" for name in ("iops", "bps")},
    "iops_size": "throttling.iops-size",
    "group": "throttling.group",
    "readonly": "read-only",
}
_LOOKED_AT = ("snapshot", "cache.writeback", "stats-account-invalid", "stats-account-failed")
# What every node takes.
_OF_NODES = frozenset({
    "node-name", "discard", "cache.direct", "cache.no-flush", "auto-read-only", "force-share", "driver",
})  # fmt: skip
_CACHES = ("none", "off", "directsync", "writeback", "unsafe", "writethrough")
_AIO = ("threads", "native", "io_uring")
_DISCARD = ("ignore", "off", "unmap", "on")
_ZEROES = ("off", "on", "unmap")
_ERROR_ACTIONS = ("ignore", "enospc", "stop", "report")
_WITH_ACTIONS = ("ide", "scsi", "virtio", "none")
_ACTIONS = (("werror", "write"), ("rerror", "read"))
_THROTTLING = "throttling."


class Given(NamedTuple):
    """What was said of a drive: `own` options, and those that are its `nodes`'."""

    own: dict[str, str]
    nodes: dict[str, str]

    @property
    def read_only(self) -> bool:
        """Whether it cannot be written to."""
        return self.own.get("media") == "cdrom" or self._is_on("read-only")

    @property
    def copies_in_vain(self) -> bool:
        """Whether what is read is to be copied to where nothing can be written."""
        return self.read_only and self._is_on("copy-on-read")

    def _is_on(self, name: str) -> bool:
        return name in self.own and key_values.boolean(name, self.own[name])


def renamed(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The options by the names that they have now.

    :raise Refusal: one has two names.
    """
    pairs = list(pairs)
    names = {name for name, _ in pairs}
    values: dict[str, str] = {}
    for name, value in pairs:
        other = _RENAMED.get(name)
        if other in names:
            raise Refusal("drive-alias", name=other, alias=name)
        values[other or name] = value
    return values


def divide(values: dict[str, str], default: str) -> tuple[Given, str]:
    """The options apart, and the interface; `default` is the one where none is said.

    :raise Refusal: one has a value that there is not.
    """
    nodes = dict(values)
    _check_choice(nodes.pop("cache", None), _CACHES, "drive-cache")
    own = {name: nodes.pop(name) for name in list(nodes) if name in OWN}
    key_values.check_flat_list([(name, value) for name, value in own.items() if OWN[name]], OWN)
    media = own.get("media", "disk")
    if media not in ("disk", "cdrom"):
        raise Refusal("drive-media", media=media)
    interface = own.get("if", default)
    if interface not in INTERFACES:
        raise Refusal("drive-interface", interface=interface)
    return Given(own, nodes), interface


def check_place(own: dict[str, str]) -> None:
    """Refuse a place that is said in two ways.

    :raise Refusal: it is.
    """
    if number(own, "index", -1) != -1 and (number(own, "bus", 0) != 0 or number(own, "unit", -1) != -1):
        raise Refusal("drive-place-twice")


def take_place(
    own: dict[str, str], units: int, taken: Collection[tuple[int, int]]
) -> tuple[int, int]:
    """The bus and the unit of a drive; each bus has that many `units`, 0 for any number, and these are `taken`.

    :raise Refusal: there is no such place, or it is taken.
    """
    check_place(own)
    bus, unit, index = (_signed(number(own, name, first)) for name, first in (("bus", 0), ("unit", -1), ("index", -1)))
    if index != -1:
        # As C divides: towards nothing.
        bus, unit = (int(index / units), index - int(index / units) * units) if units else (0, index)
    if unit == -1:
        unit = 0
        while (bus, unit) in taken:
            unit += 1
            if units and unit >= units:
                unit -= units
                bus += 1
    if units and unit >= units:
        raise Refusal("drive-unit", unit=unit, most=units - 1)
    if (bus, unit) in taken:
        raise Refusal("drive-place-taken", bus=bus, unit=unit, index=index)
    return bus, unit


def _signed(value: int) -> int:
    """A number as C's `int`."""
    value &= 0xFFFF_FFFF
    return value if value < 1 << 31 else value - (1 << 32)


def check_protocol(file: str, drivers: Container[str], computer: Computer) -> None:
    """Refuse a file's name that begins with a protocol, where that cannot be: `drivers` are those that there are.

    :raise Refusal: it cannot.
    """
    protocol, _, rest = file.partition(":")
    if protocol in NBD:
        return  # it is looked at when it is opened
    if protocol in MODULES and protocol in drivers:
        raise Refusal("protocol-module", protocol=protocol)
    if protocol == "fat":
        check_folder(rest.rpartition(":")[2], computer)
    elif protocol not in drivers:
        raise Refusal("protocol-unknown", name=protocol)


def has_protocol(file: str) -> bool:
    """Whether a file's name begins with a protocol."""
    protocol, colon, _ = file.partition(":")
    return bool(colon) and "/" not in protocol


def number(own: dict[str, str], name: str, default: int) -> int:
    """The value of a number.

    :raise Refusal: it is none.
    """
    return key_values.number(name, own[name]) if name in own else default


def check_actions_known(own: dict[str, str], interface: str) -> None:
    """Refuse to say what happens at errors of what does not know.

    :raise Refusal: it is said.
    """
    for name, _ in _ACTIONS:
        if name in own and interface not in _WITH_ACTIONS:
            raise Refusal("drive-error-unsupported", name=name)


def check_actions(own: dict[str, str]) -> None:
    """Refuse what cannot happen at errors.

    :raise Refusal: it is asked for.
    """
    for name, what in _ACTIONS:
        if name in own and (own[name] not in _ERROR_ACTIONS or (name == "rerror" and own[name] == "enospc")):
            raise Refusal("drive-error-action", action=own[name], what=what)


def take_common(nodes: dict[str, str]) -> None:
    """Look at what concerns all nodes of a drive, and take it out of what is left to their drivers.

    :raise Refusal: a value is wrong.
    """
    for name in _LOOKED_AT:
        if name in nodes:
            key_values.boolean(name, nodes[name])
    _take_intervals(nodes)
    limits: dict[str, int] = {}
    for name in [each for each in nodes if each.startswith(_THROTTLING)]:
        text = nodes.pop(name)
        if name != "throttling.group":
            limits[name.removeprefix(_THROTTLING)] = key_values.number(name, text)
    _check_choice(nodes.pop("aio", None), _AIO, "drive-aio")

    def said(unit: str, way: str, part: str) -> int | None:
        return limits.get(f"{unit}-{way}-{part}" if part else f"{unit}-{way}")

    Limits(said, limits.get("iops-size", 0)).check()
    zeroes = nodes.pop("detect-zeroes", "off")
    if zeroes not in _ZEROES:
        raise Refusal("value-invalid", value=zeroes)
    for name in _LOOKED_AT:
        nodes.pop(name, None)


def _take_intervals(nodes: dict[str, str]) -> None:
    found = accounting.intervals(nodes)
    names = list(accounting.interval_names(nodes))
    for name in names:
        if not is_digits(name) and is_digits(name.partition(".")[0]):
            raise Refusal("drive-interval-nested")
        if not is_digits(name) or from_digits(name) >= len(found):
            raise Refusal("drive-interval-option", name=name)
    for text in found:
        if not accounting.is_length(text):
            raise Refusal("drive-interval", length=text)
    for name in names:
        del nodes[f"stats-intervals.{name}"]


def take_driver(nodes: dict[str, str]) -> str | None:
    """The driver, by either of its names; None where none is said.

    :raise Refusal: both are said.
    """
    wanted = nodes.pop("format", None)
    if wanted is not None and "driver" in nodes:
        raise Refusal("drive-driver-twice")
    return wanted if wanted is not None else nodes.pop("driver", None)


def check_discard(nodes: dict[str, str]) -> None:
    """Look at what happens to what is discarded, and take it out of what is left.

    :raise Refusal: it cannot happen.
    """
    _check_choice(nodes.pop("discard", None), _DISCARD, "drive-discard")


def check_left(driver: str, left: Iterable[str], known: Container[str] | None) -> None:
    """Refuse what a driver does not know; `known` are its own options, None where nobody knows those.

    :raise Refusal: it does not know one.
    """
    for name in left:
        if known is not None and name not in _OF_NODES and name.partition(".")[0] not in known:
            code = "drive-format-option" if "file" in known else "drive-protocol-option"
            raise Refusal(code, driver=driver, name=name)


def _check_choice(value: str | None, choices: tuple[str, ...], code: str) -> None:
    if value is not None and value not in choices:
        raise Refusal(code)
