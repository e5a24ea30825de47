"""What the objects that users make refuse: values of their own, and properties that need each other.

A value is refused as it is set; the rest is looked at once all are set and the object is to begin its work (QEMU's
`UserCreatableClass.complete`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from qmpd.common.enumerations import ENUMERATIONS
from qmpd.common.refusals import Refusal
from qmpd.hardware import throttle_groups
from qmpd.hardware.memory import ADDRESSABLE
from qmpd.hardware.throttle_groups import GROUP, LIMITS, check_all
from qmpd.machine.errors import DeviceNotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Set

    from qmpd.common.computer import Computer

    Values = Mapping[str, Any]

MEMORY_BACKEND = "memory-backend"
"""What all objects are that memory is made of."""

_LARGEST = (1 << 63) - 1
_OWN_FILES = ("memory-backend-memfd", "memory-backend-shm")
_PAGE, _HUGE_PAGE = 4096, 2 << 20
_MOST_THREADS = 64
_VECTOR = 16
_EVENT_DEVICES = "/dev/input/"
_X509 = {"client": ("ca-cert.pem",), "server": ("ca-cert.pem", "server-cert.pem", "server-key.pem")}
# What the memory of a backend cannot change any more.
_FIXED = frozenset(("reserve", "share"))
_THREADS = "prealloc-threads"
_POSITIONS = ("head", "tail")
_POLICIES = ("allow", "deny")
_UNSIGNED_32 = (1 << 32) - 1
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\r\n]*")
_BLOCK = 16


class Surroundings(Protocol):
    """What an object finds when it begins its work."""

    @property
    def computer(self) -> Computer:
        """The computer that the machine is on."""

    @property
    def memory_files_of_pages(self) -> bool:
        """Whether memory in a file has whole pages alone."""

    def has_chardev(self, label: str) -> bool:
        """Whether there is a character device of this name."""

    def is_chardev_busy(self, label: str) -> bool:
        """Whether somebody uses a character device."""

    def has_netdev(self, identifier: str) -> bool:
        """Whether there is a network backend of this name."""

    def object_type(self, identifier: str) -> str | None:
        """The type of the object of this name; None where there is none."""


def check_value(kinds: Set[str], kind: str, name: str, value: Any, before: Values) -> None:
    """See whether an object of this type, that is all of `kinds`, takes this value for its property.

    `before` has what was set before it, in that order.

    :raise Refusal: it does not.
    """
    for each in kinds:
        check = _VALUES.get(each)
        if check is not None:
            check(kind, name, value)
    if name == LIMITS and GROUP in kinds:
        check_all({**before, name: value})


def check_change(kinds: Set[str], kind: str, name: str, value: Any) -> None:
    """See whether an object that works takes this value for its property.

    :raise Refusal: it does not.
    """
    if MEMORY_BACKEND in kinds and name in _FIXED:
        raise Refusal("property-fixed")
    check_value(kinds, kind, name, value, {})


def check(kinds: Set[str], kind: str, values: Values, around: Surroundings) -> None:
    """See whether an object that has these values, and defaults else, can begin its work.

    :raise Refusal: it cannot.
    """
    for each in kinds:
        rule = _WHOLE.get(each)
        if rule is not None:
            rule(kind, values, around)
    rule = _OWN.get(kind)
    if rule is not None:
        rule(kind, values, around)


# Values


def _memory_value(kind: str, name: str, value: Any) -> None:
    if name == _THREADS and not 0 <= value <= _UNSIGNED_32:
        raise Refusal("number-type", name=name, kind="uint32")
    if name in ("size", _THREADS) and value == 0:
        raise Refusal("object-value", name=name, owner=kind, value=value)


def _loop_value(_: str, name: str, value: Any) -> None:
    if name.startswith(("poll-", "aio-", "thread-pool-")) and not 0 <= value <= _LARGEST:
        raise Refusal("object-value-range", name=name, limit=_LARGEST)


def _crypto_value(kind: str, name: str, value: Any) -> None:
    if name == "queues" and value == 0:
        raise Refusal("property-value", type=kind, name=name, value=value)


def _filter_value(kind: str, name: str, value: Any) -> None:
    if name == "interval" and value == 0:
        raise Refusal("filter-interval", kind=kind)
    if name == "queue":
        _check_choice(name, value, ENUMERATIONS["NetFilterDirection"])
    if name == "position" and value not in _POSITIONS and not value.startswith("id="):
        raise Refusal("filter-position")


def _access_value(_: str, name: str, value: Any) -> None:
    if name == "policy":
        _check_choice(name, value, _POLICIES)


def _credentials_value(_: str, name: str, value: Any) -> None:
    if name == "endpoint":
        _check_choice(name, value, ENUMERATIONS["QCryptoTLSCredsEndpoint"])


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise Refusal("enum-refusal", name=name, value=value)


def is_known(kind: str) -> bool:
    """Whether there are rules for objects of this very type."""
    return kind in _OWN


_VALUES: dict[str, Callable[[str, str, Any], None]] = {
    "authz-list": _access_value,
    "cryptodev-backend": _crypto_value,
    "event-loop-base": _loop_value,
    "iothread": _loop_value,
    MEMORY_BACKEND: _memory_value,
    "netfilter": _filter_value,
    GROUP: throttle_groups.check_value,
    "tls-creds": _credentials_value,
}
"""What is looked at when a property is set, by the type that has it."""


# Whole objects


def _monitor(_: str, values: Values, around: Surroundings) -> None:
    label = values["chardev"]
    if not around.has_chardev(label):
        raise Refusal("chardev-missing", id=label)
    if around.is_chardev_busy(label):
        raise Refusal("chardev-taken", id=label)


def _memory(kind: str, values: Values, around: Surroundings) -> None:
    if "size" not in values:
        raise Refusal("memory-size-missing")
    path = values.get("mem-path")
    if kind == "memory-backend-ram" and values["size"] >= ADDRESSABLE:
        raise Refusal("memory-too-large", id=values["id"])
    if path is None and kind == "memory-backend-file":
        raise Refusal("memory-path-missing")
    if path is not None:
        _memory_file(path, around.computer)
    align = values.get("align", 0)
    if kind == "memory-backend-file" and values["size"] % _PAGE and around.memory_files_of_pages:
        raise Refusal("memory-file-pages", kind=kind)
    if align % _PAGE:
        raise Refusal("memory-alignment", value=f"{align:#x}", page=f"{_PAGE:#x}")
    if align & align - 1:
        raise Refusal("memory-alignment-power", value=f"{align:#x}")
    if values.get("hugetlb") and values["size"] % values.get("hugetlbsize", _HUGE_PAGE):
        raise Refusal("memory-file-resize", size=values["size"])
    if kind in _OWN_FILES:
        _check_size(values, values["size"])
    if path is not None:
        _check_file_size(values, path, around.computer)
    nodes, policy = values.get("host-nodes"), values.get("policy", "default")
    if nodes and policy == "default":
        raise Refusal("memory-nodes-without-policy")
    if not nodes and policy != "default":
        raise Refusal("memory-policy-without-nodes", policy=policy)


def _memory_file(path: str, computer: Computer) -> None:
    """A file that is not there is made."""
    try:
        try:
            computer.check_access(path)
        except FileNotFoundError:
            computer.check_folder(path)
    except OSError as error:
        raise Refusal("memory-file", path=path, reason=error.strerror) from None


def _check_file_size(values: Values, path: str, computer: Computer) -> None:
    """One that is there and is not empty has to be large enough."""
    try:
        has = computer.size(path)
    except OSError:
        return
    if has:
        _check_size(values, has)


def _check_size(values: Values, has: int) -> None:
    size, offset = -(-values["size"] // _PAGE) * _PAGE, values.get("offset", 0)
    if has < size + offset:
        raise Refusal("memory-file-size", id=values["id"], has=f"{has:#x}", size=f"{size:#x}", offset=f"{offset:#x}")


def _random(_: str, values: Values, around: Surroundings) -> None:
    _check_readable(values.get("filename", "/dev/urandom"), around)


def _event_device(_: str, values: Values, around: Surroundings) -> None:
    path = values.get("evdev")
    if not path:
        raise Refusal("event-device-missing")
    _check_readable(path, around)
    if not path.startswith(_EVENT_DEVICES):
        raise Refusal("event-device-none", path=path)


def _check_readable(path: str, around: Surroundings) -> None:
    try:
        around.computer.check_readable(path)
    except OSError as error:
        raise Refusal("open-failed", path=path, reason=error.strerror) from None


def _chardev_user(_: str, values: Values, around: Surroundings) -> None:
    label = values.get("chardev")
    if not label:
        raise Refusal("object-chardev-missing")
    _check_chardev(label, around)


def _check_chardev(label: str, around: Surroundings, code: str = "device-missing") -> None:
    if not around.has_chardev(label):
        raise Refusal(code, id=label)


def _secret(_: str, values: Values, around: Surroundings) -> None:
    data, path = values.get("data"), values.get("file")
    if data is not None and path is not None:
        raise Refusal("secret-twice")
    content = _secret_file(path, around.computer) if path is not None else (data or "").encode()
    if data is None and path is None:
        raise Refusal("secret-empty")
    key = values.get("keyid")
    if key is not None:
        kind = around.object_type(key)
        if kind != "secret":
            raise Refusal("secret-key-missing" if kind is None else "secret-key-none", id=key)
        vector = values.get("iv")
        if vector is None:
            raise Refusal("secret-without-vector")
        length = _decoded_length(vector.encode())
        if length != _VECTOR:
            raise Refusal("secret-vector-length", expected=_VECTOR, length=length)
    length = _decoded_length(content) if values.get("format") == "base64" else len(content)
    # What is encrypted is not looked at.
    if key is not None and length % _BLOCK:
        raise Refusal("secret-length", length=length, block=_BLOCK)


def _secret_file(path: str, computer: Computer) -> bytes:
    try:
        return computer.read(path)
    except IsADirectoryError as error:
        raise Refusal("secret-folder", path=path, reason=error.strerror) from None
    except OSError as error:
        raise Refusal("secret-file", path=path, reason=error.strerror) from None


def _decoded_length(text: bytes) -> int:
    """How many bytes a text in base64 stands for; what is left behind the last four characters is nothing (GLib's way).

    :raise Refusal: it is none.
    """
    if _BASE64.fullmatch(text) is None:
        raise Refusal("base64")
    text = text.translate(None, b"\r\n")
    whole = text[: len(text) // 4 * 4]
    return len(whole) // 4 * 3 - (len(whole) - len(whole.rstrip(b"=")))


def _credentials(values: Values, around: Surroundings, names: tuple[str, ...]) -> None:
    folder = values.get("dir")
    if folder is None:
        raise Refusal("credentials-folder-missing")
    for name in names:
        path = f"{folder}/{name}"
        try:
            around.computer.check_access(path)
        except OSError as error:
            raise Refusal("credentials-unreadable", path=path, reason=error.strerror) from None


def _certificates(_: str, values: Values, around: Surroundings) -> None:
    _credentials(values, around, _X509[values.get("endpoint", "client")])


def _keys(_: str, values: Values, around: Surroundings) -> None:
    if values.get("endpoint") == "server" and values.get("username") is not None and values.get("dir") is not None:
        raise Refusal("credentials-username")
    _credentials(values, around, ("keys.psk",))


def _affinity(_: str, values: Values, around: Surroundings) -> None:
    del around
    if "cpu-affinity" in values and "node-affinity" in values:
        raise Refusal("affinity-mixed")


def _threads(_: str, values: Values, around: Surroundings) -> None:
    del around
    least, most = values.get("thread-pool-min", 0), values.get("thread-pool-max", _MOST_THREADS)
    if least > most or most == 0:
        raise Refusal("thread-pool-bounds")


def _throttle(_: str, values: Values, around: Surroundings) -> None:
    del around
    check_all(values)


def _filter(_: str, values: Values, around: Surroundings) -> None:
    netdev = values.get("netdev")
    if netdev is None:
        raise Refusal("filter-netdev-missing")
    if not around.has_netdev(netdev):
        raise Refusal("filter-netdev")


def _buffer(_: str, values: Values, around: Surroundings) -> None:
    del around
    if "interval" not in values:
        raise Refusal("filter-interval-missing")


def _dump(_: str, values: Values, around: Surroundings) -> None:
    path = values.get("file", "vm0-dump.pcap")
    try:
        around.computer.check_folder(path)
    except OSError as error:
        raise Refusal("filter-dump-file", path=path, reason=error.strerror) from None


def _mirror(_: str, values: Values, around: Surroundings) -> None:
    label = values.get("outdev")
    if label is None:
        raise Refusal("filter-mirror-unconnected")
    _check_chardev(label, around)


def _redirector(_: str, values: Values, around: Surroundings) -> None:
    came, goes = values.get("indev"), values.get("outdev")
    if came is None and goes is None:
        raise Refusal("filter-redirector-empty")
    if came is not None and came == goes:
        raise Refusal("filter-redirector-same")
    if came is not None:
        _check_chardev(came, around, "filter-redirector-in")
    if goes is not None:
        _check_chardev(goes, around, "filter-redirector-out")


def _access_list(_: str, values: Values, around: Surroundings) -> None:
    path = values.get("filename")
    if path is None:
        raise Refusal("access-list-missing")
    try:
        around.computer.check_readable(path)
    except OSError as error:
        raise Refusal("access-list-unreadable", path=path, reason=error.strerror) from None


def _access_simple(_: str, values: Values, around: Surroundings) -> None:
    del around
    if "identity" not in values:
        raise Refusal("access-identity-missing")


def _compare(_: str, values: Values, around: Surroundings) -> None:
    if any(values.get(name) is None for name in ("primary_in", "secondary_in", "outdev", "iothread")):
        raise Refusal("compare-incomplete")
    for name in ("primary_in", "secondary_in", "outdev"):
        _check_chardev(values[name], around)


def _reservations(_: str, values: Values, around: Surroundings) -> None:
    path = values.get("path", "")
    try:
        around.computer.check_access(path)
    except OSError as error:
        raise Refusal("connect-failed", place=path, reason=error.strerror) from None


def _socket_can(_: str, values: Values, around: Surroundings) -> None:
    if "if" not in values:
        raise Refusal("can-interface-missing")
    bus = values.get("canbus")
    if bus is not None and around.object_type(bus) is None:
        raise DeviceNotFound(f"Device '{bus}' not found")


_WHOLE: dict[str, Callable[[str, Values, Surroundings], None]] = {
    "event-loop-base": _threads,
    MEMORY_BACKEND: _memory,
    "netfilter": _filter,
}
"""What is looked at when an object begins its work, by what it is."""

_OWN: dict[str, Callable[[str, Values, Surroundings], None]] = {
    "authz-list-file": _access_list,
    "authz-simple": _access_simple,
    "can-host-socketcan": _socket_can,
    "colo-compare": _compare,
    "cryptodev-vhost-user": _chardev_user,
    "filter-buffer": _buffer,
    "filter-dump": _dump,
    "filter-mirror": _mirror,
    "filter-redirector": _redirector,
    "input-linux": _event_device,
    "monitor-hmp": _monitor,
    "monitor-qmp": _monitor,
    "pr-manager-helper": _reservations,
    "rng-egd": _chardev_user,
    "rng-random": _random,
    "secret": _secret,
    "thread-context": _affinity,
    GROUP: _throttle,
    "tls-creds-psk": _keys,
    "tls-creds-x509": _certificates,
}
"""The same, by the type alone."""
