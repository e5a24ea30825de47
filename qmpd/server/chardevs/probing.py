"""Finding out whether a character device could be opened, without opening it.

That is for devices that are opened later than QEMU opens them, and for those through which nothing passes here.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any

from qmpd.common.file_sets import FOLDER
from qmpd.common.integers import from_digits, is_digits
from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Data = Mapping[str, Any]

_NO_SERVICE = "Servname not supported for ai_socktype"


def probe(backend: Mapping[str, Any]) -> None:
    """Find out whether a device could be opened.

    :raise Refusal: it could not.
    """
    data = backend.get("data", {})
    if "logfile" in data:
        probe_writing(data["logfile"], "chardev-log")
    look = _PROBES.get(backend["type"])
    if look is not None:
        look(data)


def probe_writing(path: str, code: str) -> None:
    """Find out whether a file can be written, without a trace; `code` is what refuses one that cannot.

    :raise Refusal: it cannot.
    """
    if path.startswith(FOLDER):
        return  # a file of a set of `-add-fd`: it is looked for when it is opened
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not path:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not os.path.exists(path):
            os.stat(os.path.dirname(path) or ".")
    except OSError as error:
        raise Refusal(code, path=path, reason=error.strerror) from None


def _probe_reading(path: str) -> None:
    try:
        os.stat(path)
    except OSError as error:
        raise Refusal("open-failed", path=path, reason=error.strerror) from None


def _file(data: Data) -> None:
    probe_writing(data["out"], "open-failed")
    if "in" in data:
        _probe_reading(data["in"])


def _device(data: Data) -> None:
    _probe_reading(data["device"])


def _parallel(data: Data) -> None:
    _probe_reading(data["device"])
    raise Refusal("chardev-parallel", reason=os.strerror(errno.ENOTTY))


def _datagrams(data: Data) -> None:
    for name in ("local", "remote"):
        address = data.get(name, {})
        if address.get("type") == "inet" and not is_digits(address["data"]["port"]):
            raise Refusal("address-resolution", **_place(address["data"]), reason=_NO_SERVICE)


def _place(data: Data) -> dict[str, object]:
    return {"host": data.get("host", ""), "port": data["port"]}


def _socket(data: Data) -> None:
    """A descriptor of the caller's; any other socket is opened by whoever asks."""
    address = data["addr"]
    if address["type"] != "fd":
        return
    text = address["data"]["str"]
    if not text and data.get("server", True):
        return
    if not is_digits(text.removeprefix("-")):
        raise Refusal("descriptor-unreadable", text=text)
    try:
        is_socket = stat.S_ISSOCK(os.fstat(from_digits(text) if is_digits(text) else -1).st_mode)
    except (OSError, OverflowError):
        is_socket = False
    if not is_socket:
        raise Refusal("descriptor-no-socket", text=text)


_PROBES: dict[str, Callable[[Data], None]] = {
    "file": _file,
    "parallel": _parallel,
    "pipe": _device,
    "serial": _device,
    "socket": _socket,
    "udp": _datagrams,
}
