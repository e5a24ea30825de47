"""The drivers: which children each has, and what part those play."""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from qmpd.block.values import number

if TYPE_CHECKING:
    from collections.abc import Mapping


class Role(enum.Enum):
    """What a child is to the node above it."""

    FILTERED = "what is passed through"
    MIRRORED = "what is passed through, and only written there"
    COMMITTED = "what is passed through, and written by the job that put this there"
    COPIED_DOWN = "what is passed through, and written into what is behind it by the job that put this there"
    WATCHED = "what is passed through, and read before it is written"
    DATA = "where a format has the guest's bytes"
    ENCRYPTED = "where a volume has the guest's bytes, encrypted"
    METADATA = "where a format has its tables"
    BACKING = "what shows where there is nothing"
    COPIED = "what is written as it was read"
    TARGET = "where old bytes are saved"
    LATE_TARGET = "where old bytes are saved, from when a job uses the node on"
    ASKED = "what is asked for its bytes as they were"
    VOTER = "one of several that ought to be the same"


class Driver(NamedTuple):
    """A kind of node.

    `children` are the options that name its children, in the order in which they are opened; `first` is the one whose
    bytes are the node's own.  `strong` are the options that make a node another one.  `is_protocol`: it is at the
    bottom of what is opened by a file's name; `grows`: block_resize can change its size.  `spelled` has the
    children that texts call by another name.  `compresses`: it takes data to be written compressed, or passes that on.
    """

    children: Mapping[str, Role] = MappingProxyType({})
    first: str = "file"
    strong: tuple[str, ...] = ()
    is_protocol: bool = False
    is_filter: bool = False
    grows: bool = False
    spelled: Mapping[str, str] = MappingProxyType({})
    compresses: bool = False


FOREIGN = ("vmdk", "vdi", "vpc", "vhdx")
"""Formats that libraries read, and nobody here writes (`qmpd.block.drivers.foreign`)."""

DRIVERS: dict[str, Driver] = {
    "null-co": Driver(strong=("size", "read-zeroes"), is_protocol=True),
    "null-aio": Driver(strong=("size", "read-zeroes"), is_protocol=True),
    "file": Driver(strong=("filename",), is_protocol=True, grows=True),
    "host_device": Driver(strong=("filename",), is_protocol=True, grows=True),
    "host_cdrom": Driver(strong=("filename",), is_protocol=True),
    "nbd": Driver(strong=("server", "path", "host", "port", "export", "tls-creds", "tls-hostname"), is_protocol=True,
                  grows=True),
    "raw": Driver({"file": Role.FILTERED}, strong=("offset", "size"), grows=True),
    "qcow2": Driver(
        {"file": Role.METADATA, "data-file": Role.DATA, "backing": Role.BACKING}, grows=True, compresses=True
    ),
    "qed": Driver({"file": Role.METADATA, "backing": Role.BACKING}, grows=True),
    **dict.fromkeys(FOREIGN, Driver({"file": Role.METADATA})),
    "luks": Driver({"file": Role.ENCRYPTED}, strong=("key-secret",), grows=True),
    "throttle": Driver(
        {"file": Role.FILTERED}, strong=("throttle-group",), is_filter=True, grows=True, compresses=True
    ),
    "copy-on-read": Driver({"file": Role.COPIED}, is_filter=True, grows=True, compresses=True),
    "copy-before-write": Driver({"file": Role.WATCHED, "target": Role.TARGET}, strong=("bitmap",), is_filter=True),
    "snapshot-access": Driver({"file": Role.ASKED}),
    "backup-top": Driver(
        {"file": Role.WATCHED, "target": Role.LATE_TARGET}, is_filter=True,
        spelled=MappingProxyType({"file": "backing"}),
    ),
    "compress": Driver({"file": Role.FILTERED}, is_filter=True, grows=True),
    "preallocate": Driver({"file": Role.FILTERED}, is_filter=True, grows=True),
    "blkdebug": Driver(
        {"image": Role.FILTERED}, "image",
        ("config", "inject-error", "set-state", "align", "max-transfer", "opt-write-zero", "max-write-zero",
         "opt-discard", "max-discard"),
        is_protocol=True, is_filter=True, grows=True,
    ),
    "blkverify": Driver({"raw": Role.FILTERED, "test": Role.DATA}, "test", is_protocol=True, is_filter=True),
    "blklogwrites": Driver(
        {"file": Role.FILTERED, "log": Role.METADATA}, strong=("log-sector-size", "log-append"), is_filter=True,
    ),
    "mirror_top": Driver({"backing": Role.FILTERED}, "backing", is_filter=True),
    "commit_top": Driver({"backing": Role.COMMITTED}, "backing", is_filter=True),
    "quorum": Driver(
        strong=("vote-threshold", "blkverify", "rewrite-corrupted", "read-pattern"), is_protocol=True, is_filter=True,
    ),
}  # fmt: skip
"""All that are modelled, by the names of QAPI's BlockdevDriver."""

MODULES = {
    "http": "curl", "https": "curl", "ftp": "curl", "ftps": "curl", "ssh": "ssh", "rbd": "rbd", "gluster": "gluster",
    "iscsi": "iscsi", "nfs": "nfs",
}  # fmt: skip
"""Those that are in modules of their own, which are not taken for installed, and the modules' names."""


def role_of(driver: str, options: Mapping[str, object], name: str) -> Role:
    """The part that a child plays for a node with this driver and these options."""
    if driver == "quorum":
        return Role.VOTER
    if driver == "mirror_top" and options.get("commits"):
        return Role.COPIED_DOWN
    if driver == "mirror_top" and options.get("writes-only"):
        return Role.MIRRORED
    if driver == "raw" and (number(options.get("offset", 0)) or "size" in options):
        return Role.DATA
    return DRIVERS[driver].children.get(name, Role.FILTERED)
