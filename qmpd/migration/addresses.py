"""The addresses of migration: what QEMU refuses of `-incoming`, `migrate-incoming` and `migrate`.

They were measured on the real programs of four releases.  (QEMU's migration/migration.c, migration/file.c and
util/qemu-sockets.c.)
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.common.addresses import vsock_place
from qmpd.common.integers import is_digits
from qmpd.common.refusals import Refusal
from qmpd.common.scalars import size_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from qmpd.common.computer import Asker, Computer

_PROTOCOLS = frozenset({"tcp", "unix", "exec", "fd", "rdma", "vsock"})
_FILE = "file"
_OFFSET = ",offset="
_NO_SERVICE = "Servname not supported for ai_socktype"
# Through what a machine can come, of the open files that there are.
_STREAMS = frozenset({"socket", "pipe"})


class AddressRules(Protocol):
    """What releases differ in (`qmpd.qapi.behaviour.Behaviour`)."""

    @property
    def migrates_through_files(self) -> bool:
        """`file:` is an address."""

    @property
    def incoming_channels(self) -> bool:
        """An address is made a channel's, and RDMA's are read as all others."""

    @property
    def descriptors_of_files(self) -> str:
        """Whether `fd:` may be a file that is no stream: `taken`, `deprecated` or `refused`."""


class Comes(enum.Enum):
    """What comes from an address that is taken."""

    NOBODY = enum.auto()
    """Nobody yet: somebody may connect."""
    NO_MACHINE = enum.auto()
    """Something that is no machine: a file's content."""


def scheme_of(uri: str, rules: AddressRules) -> str | None:
    """The protocol of an address; None where the release knows none of that name."""
    scheme, colon, _ = uri.partition(":")
    known = scheme in _PROTOCOLS or (scheme == _FILE and rules.migrates_through_files)
    return scheme if colon and known else None


def address_of(uri: str, rules: AddressRules, *, incoming: bool) -> dict[str, Any]:
    """An address as QAPI's `MigrationAddress`, whoever is there.

    :raise Refusal: it is none.
    """
    scheme = scheme_of(uri, rules)
    if scheme is None:
        raise Refusal("incoming-protocol" if incoming else "migration-protocol", uri=uri)
    rest = uri.partition(":")[2]
    host, port = _read(scheme, rest, rules)
    match scheme:
        case "unix":
            return {"transport": "socket", "type": "unix", "path": rest}
        case "tcp":
            return {"transport": "socket", "type": "inet", "host": host, "port": port, **_families(rest)}
        case "vsock":
            return {"transport": "socket", "type": "vsock", "cid": host, "port": port}
        case "exec":
            return {"transport": "exec", "args": ["/bin/sh", "-c", rest]}
        case "fd":
            if not rest and rules.incoming_channels:
                raise Refusal("descriptor-address-empty")
            return {"transport": "socket", "type": "fd", "str": rest}
        case "file":
            path, offset = path_and_offset(rest)
            return {"transport": "file", "filename": path, "offset": offset}
    return {"transport": "rdma", "host": host, "port": port}


def main_channel(channels: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The address of a list's main channel (QAPI's `MigrationChannel`).

    :raise Refusal: there is none, or more than one.
    """
    found: Mapping[str, Any] | None = None
    for each in channels:
        if each["channel-type"] == "main":
            if found is not None:
                raise Refusal("migration-channels", kind="main")
            found = each["addr"]
    if found is None:
        raise Refusal("migration-no-main-channel")
    return found


def _families(text: str) -> dict[str, bool]:
    """What an address says of the families that it may be of."""
    options = dict(each.partition("=")[::2] for each in text.split(",")[1:])
    return {name: options[name] in ("on", "") for name in ("ipv4", "ipv6") if name in options}


def check_incoming(uri: str, rules: AddressRules, computer: Computer, asker: Asker) -> Comes:
    """See whether a machine can be waited for there, and what comes; `asker` is told what is doubtful.

    :raise Refusal: it cannot.
    """
    scheme = scheme_of(uri, rules)
    if scheme is None:
        raise Refusal("incoming-protocol", uri=uri)
    rest = uri.partition(":")[2]
    host, port = _read(scheme, rest, rules)
    match scheme:
        case "tcp" if not is_digits(port):
            raise Refusal("address-resolution", host=host, port=port, reason=_NO_SERVICE)
        case "vsock":
            vsock_place({"cid": host, "port": port})
        case "unix":
            try:
                computer.check_folder(rest)
            except OSError as error:
                raise Refusal("bind-failed", place=rest, reason=error.strerror) from None
        case "fd":
            if not rest and rules.incoming_channels:
                raise Refusal("descriptor-address-empty")
            return check_descriptor(asker.descriptor(rest), rules, computer, asker)
        case "file":
            path, _ = path_and_offset(rest)
            try:
                computer.check_access(path)
            except OSError as error:
                raise Refusal("open-failed", path=path, reason=error.strerror) from None
            return Comes.NO_MACHINE
    return Comes.NOBODY


def _read(scheme: str, rest: str, rules: AddressRules) -> tuple[str, str]:
    """Take apart what is behind the protocol: the host and the port, both empty where it has none.

    :raise Refusal: it is no address.
    """
    if scheme == "unix" and not rest:
        raise Refusal("unix-address-empty")
    if scheme == "rdma" and not rules.incoming_channels:
        if ":" not in rest:
            raise Refusal("rdma-address", text=rest)
    elif scheme in ("tcp", "rdma"):
        return _host_and_port(rest)
    elif scheme == "vsock":
        host, colon, port = rest.partition(":")
        if not colon:
            raise Refusal("address-syntax", text=rest)
        return host, port
    return "", ""


def _host_and_port(text: str) -> tuple[str, str]:
    host, colon, port = text.partition(",")[0].rpartition(":")
    if text.startswith("["):
        if not host.endswith("]"):
            raise Refusal("address-syntax-ipv6", text=text)
        return host[1:-1], port
    if not colon:
        raise Refusal("address-syntax", text=text)
    return host, port


def path_and_offset(text: str) -> tuple[str, int]:
    """What `PATH[,offset=SIZE]` says.

    :raise Refusal: the offset is none.
    """
    path, given, offset = text.partition(_OFFSET)
    try:
        return path, size_of(offset) if given else 0
    except (ValueError, OverflowError):
        raise Refusal("file-offset", offset=offset) from None


def check_descriptor(number: int, rules: AddressRules, computer: Computer, asker: Asker) -> Comes:
    """See whether a machine can come from an open file; `asker` is told what is doubtful.

    :raise Refusal: it cannot.
    """
    try:
        kind: str | None = computer.descriptor_kind(number)
    except OSError:
        kind = None
    if kind in _STREAMS:
        return Comes.NOBODY
    if rules.descriptors_of_files == "refused":
        raise Refusal("descriptor-of-file")
    if rules.descriptors_of_files == "deprecated":
        asker.complain("warning: fd: migration to a file is deprecated. Use file: instead.")
    return Comes.NOBODY if kind is None else Comes.NO_MACHINE
