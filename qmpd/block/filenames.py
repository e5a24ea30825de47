"""Names of files as options of nodes: `json:`, `DRIVER:`, and what an image says is behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmpd.block.drivers.table import MODULES
from qmpd.block.files import kind_of
from qmpd.block.flat import Flat, flatten
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.machine.errors import MachineError
from qmpd.wire.json_text import parse as parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

NBD = ("nbd", "nbd+tcp", "nbd+unix")
"""The protocols of names that mean an NBD server."""
_NULL = ("null-co", "null-aio")
_MAGIC = (
    (b"QFI\xfb", "qcow2"), (b"QED\0", "qed"), (b"KDMV", "vmdk"), (b"COWD", "vmdk"), (b"conectix", "vpc"),
    (b"vhdxfile", "vhdx"), (b"LUKS\xba\xbe", "luks"), (b"WithoutFreeSpace", "parallels"),
    (b"WithouFreSpacExt", "parallels"), (b"Bochs Virtual HD Image", "bochs"),
)  # fmt: skip
_VDI_AT, _VDI = 0x40, b"\x7f\x10\xda\xbe"


def parse(filename: str, json_parser: str = "classic") -> dict[str, Any]:
    """The options of the node that a name stands for, on which a format may be put; `json:` has those of both, flat.

    :raise MachineError: the name is none.
    :raise NotModelled: its protocol is not modelled.
    """
    if filename.startswith("json:"):
        return _of_json(filename.removeprefix("json:"), json_parser)
    protocol, colon, rest = filename.partition(":")
    if colon and protocol in NBD:
        from qmpd.block.drivers.nbd import parse_name

        return parse_name(filename)
    if not colon or "/" in protocol:
        return {"driver": kind_of(filename), "filename": filename}
    if protocol in _NULL:
        check_null(protocol, filename)
        return {"driver": protocol}
    if protocol in ("file", "host_device", "host_cdrom"):
        name = rest
        return {"driver": kind_of(name) if protocol == "file" else protocol, "filename": name}
    if protocol == "blkdebug":
        config, _, image = rest.partition(":")
        found: dict[str, Any] = {"driver": "blkdebug", "image": parse(image, json_parser)}
        return {**found, "config": config} if config else found
    if protocol == "blkverify":
        raw, _, test = rest.partition(":")
        return {"driver": "blkverify", "raw": parse(raw, json_parser), "test": {"file": parse(test, json_parser)}}
    if protocol in ("fat", "vvfat"):
        raise NotModelled(f"protocol {protocol}")
    if protocol in MODULES:
        raise Refusal("protocol-module", protocol=protocol)
    raise MachineError(f"Unknown protocol '{protocol}'")


def check_null(driver: str, filename: str) -> None:
    """Refuse a file's name for a null device.

    :raise MachineError: it has one that is not its own.
    """
    if driver in _NULL and filename != f"{driver}://":
        raise MachineError(f"The only allowed filename for this driver is '{driver}://'")


def _of_json(text: str, json_parser: str) -> Flat:
    try:
        value = parse_json(text, json_parser)
    except ValueError as error:
        raise MachineError(f"Could not parse the JSON options: {error}") from None
    if not isinstance(value, dict):
        raise MachineError("Invalid JSON object given")
    return flatten(value)


def probe_bytes(head: bytes) -> str:
    """The format that begins with these bytes."""
    if head[_VDI_AT : _VDI_AT + len(_VDI)] == _VDI:
        return "vdi"
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "raw")


def of_file(filename: str, driver: str | None, *, read_only: bool, json_parser: str = "classic") -> dict[str, Any]:
    """The options of the node that stands for a file's name; its format is looked for where none is told.

    :raise MachineError: the name is none.
    """
    found = parse(filename, json_parser)
    if isinstance(found, Flat):
        return Flat({"read-only": read_only, **found, **({} if driver is None else {"driver": driver})})
    if driver == found.get("driver"):
        # The driver of the file itself is told.
        return {**found, "read-only": read_only}
    told = {} if driver is None else {"driver": driver}
    return {**told, "file": found, "read-only": read_only}


def with_defaults(options: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a named node, and what is so where a name does not tell it (only `json:` ones do)."""
    if isinstance(options, Flat):
        return Flat({**flatten(defaults), **options}, options.reference)
    return {**options, **defaults}
