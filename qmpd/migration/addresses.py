"""The addresses of migration: what QEMU refuses of `-incoming`, `migrate-incoming` and `migrate`.

They were measured on the real programs of four releases.  (QEMU's migration/migration.c, migration/file.c and
util/qemu-sockets.c.)
"""

from __future__ import annotations

import enum
import errno
import os
from typing import TYPE_CHECKING, Protocol

from qmpd.common.refusals import Refusal
from qmpd.common.scalars import size_of

if TYPE_CHECKING:
    from collections.abc import Callable

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


def check_outgoing(uri: str, rules: AddressRules, computer: Computer, has_file: Callable[[str], bool]) -> None:
    """See whether a machine can set out for there; whether anybody is there shows on the way.

    `has_file` tells whether whoever asks has handed over an open file of that name.

    :raise Refusal: it cannot.
    """
    scheme = scheme_of(uri, rules)
    if scheme is None:
        raise Refusal("migration-protocol", uri=uri)
    rest = uri.partition(":")[2]
    _read(scheme, rest, rules)
    if scheme == "fd" and not has_file(rest):
        raise Refusal("descriptor-name-missing", name=rest)
    if scheme == _FILE:
        _check_new_file(_path_of_file(rest), computer)


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
        case "tcp" if not port.isdigit():
            raise Refusal("address-resolution", host=host, port=port, reason=_NO_SERVICE)
        case "vsock" if not port.isdigit():
            raise Refusal("vsock-port", port=port)
        case "unix":
            try:
                computer.check_folder(rest)
            except OSError as error:
                raise Refusal("bind-failed", place=rest, reason=error.strerror) from None
        case "fd":
            return _check_descriptor(asker.descriptor(rest), rules, computer, asker)
        case "file":
            path = _path_of_file(rest)
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


def _path_of_file(text: str) -> str:
    """The path of `file:PATH[,offset=SIZE]`.

    :raise Refusal: the offset is none.
    """
    path, given, offset = text.partition(_OFFSET)
    if given:
        try:
            size_of(offset)
        except (ValueError, OverflowError):
            raise Refusal("file-offset", offset=offset) from None
    return path


def _check_new_file(path: str, computer: Computer) -> None:
    number = errno.EISDIR if computer.is_folder(path) else 0 if path else errno.ENOENT
    try:
        computer.check_folder(path)
    except OSError as error:
        number = error.errno or number
    if number:
        raise Refusal("create-failed", path=path, reason=os.strerror(number))


def _check_descriptor(number: int, rules: AddressRules, computer: Computer, asker: Asker) -> Comes:
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
