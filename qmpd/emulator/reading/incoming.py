"""`-incoming`: where a machine that migrates to here would come from, and what QEMU says to a place that is none.

Nobody is listened for: no machine of QEMU's can be taken over.  (QEMU's migration/migration.c, util/qemu-sockets.c.)
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal
from qmpd.option_language.errors import NOWHERE, OptionError

if TYPE_CHECKING:
    from qmpd.emulator.reading.options import EmulatorOptions


def check_incoming(options: EmulatorOptions, uri: str) -> None:
    """See whether a machine can wait there.

    :raise OptionError: it cannot, or what comes from there is no machine.
    """
    try:
        _check(options, uri)
    except Refusal as error:
        raise error.at(f"-incoming {uri}") from None


def _check(options: EmulatorOptions, uri: str) -> None:
    scheme, colon, rest = uri.partition(":")
    if scheme == "vsock":
        if ":" not in rest:
            raise OptionError(f"error parsing address '{rest}'")
        return
    if scheme == "rdma":
        sys.stderr.write(f"RDMA ERROR: bad RDMA migration address '{rest}'\n")
        raise OptionError(f"RDMA ERROR: bad RDMA migration address '{rest}'")
    behaviour = options.release.behaviour
    if scheme == "exec" or (behaviour.incoming_channels and (uri.startswith("{") or not colon)):
        return
    if not colon:
        raise OptionError(behaviour.unknown_incoming.format(uri=uri))
    match scheme:
        case "tcp":
            host, colon, port = rest.split(",")[0].rpartition(":")
            if rest.startswith("[") and host.rstrip("]") + "]" != host:
                raise OptionError(f"error parsing IPv6 address '{rest}'")
            if not colon:
                raise OptionError(f"error parsing address '{rest}'")
            if not port.isdigit():
                text = f"address resolution failed for {host}:{port}"
                raise OptionError(f"{text}: Servname not supported for ai_socktype")
        case "unix":
            if not rest:
                raise OptionError("invalid Unix socket address")
            _check_path(rest)
        case "fd":
            _check_descriptor(options, rest)
        case "file" if behaviour.migrates_through_files:
            _check_file(rest.split(",")[0])
        case _:
            raise OptionError(f"unknown migration protocol: {uri}")


def _check_path(path: str) -> None:
    try:
        os.stat(os.path.dirname(path) or ".")
    except OSError as error:
        raise OptionError(f"Failed to bind socket to {path}: {error.strerror}") from None


def _check_descriptor(options: EmulatorOptions, text: str) -> None:
    if not text.isdigit():
        raise OptionError(f"Invalid file descriptor number '{text}'")
    try:
        mode = os.fstat(int(text)).st_mode
    except OSError:
        mode = None
    is_file = mode is None or not (stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode))
    if is_file and options.release.behaviour.descriptors_of_files_deprecated:
        options.complaints.line("warning: fd: migration to a file is deprecated. Use file: instead.")
    if mode is not None and is_file:
        raise _no_machine()


def _check_file(path: str) -> None:
    try:
        os.stat(path)
    except OSError as error:
        raise OptionError(f"Could not open '{path}': {error.strerror}") from None
    raise _no_machine()


def _no_machine() -> OptionError:
    """What comes is no machine; two complaints, without a place."""
    return OptionError("Not a migration stream\nload of migration failed: Invalid argument", NOWHERE)
