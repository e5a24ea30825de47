"""What objects of the user's refuse when they are made: files, and properties that need each other (QEMU's backends,
crypto, iothread and net)."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.emulator.reading.options import EmulatorOptions

    Values = dict[str, object]

_BASE64 = re.compile(rb"[A-Za-z0-9+/=\r\n]*")
_MOST_THREADS = 64
_X509 = {"client": ("ca-cert.pem",), "server": ("ca-cert.pem", "server-cert.pem", "server-key.pem")}


def check_object(arguments: Values, options: EmulatorOptions) -> str | None:
    """The text with which QEMU refuses an object; None where it does not."""
    kind = str(arguments["qom-type"])
    if kind.startswith("memory-backend-"):
        kind = "memory-backend"
    check = _CHECKS.get(kind)
    if kind.startswith("filter-"):
        check = _filter
    return None if check is None else check(arguments, options)


def _memory(arguments: Values, options: EmulatorOptions) -> str | None:
    del options
    kind = arguments["qom-type"]
    if kind == "memory-backend-epc":
        return "invalid object type: memory-backend-epc"
    if arguments.get("prealloc-threads") == 0:
        return f"property 'prealloc-threads' of {kind} doesn't take value '0'"
    nodes = arguments.get("host-nodes")
    policy = arguments.get("policy", "default")
    if nodes and policy == "default":
        return (
            "host-nodes must be empty for policy default, or you should explicitly specify a policy other than default"
        )
    if not nodes and policy != "default":
        return f"host-nodes must be set for policy {policy}"
    path = arguments.get("mem-path")
    if isinstance(path, str) and not os.path.exists(path):
        try:
            os.stat(os.path.dirname(path) or ".")
        except OSError as error:
            return f"can't open backing store {path} for guest RAM: {error.strerror}"
    return None


def _random(arguments: Values, options: EmulatorOptions) -> str | None:
    del options
    return _opened(str(arguments.get("filename", "/dev/urandom")))


def _event_device(arguments: Values, options: EmulatorOptions) -> str | None:
    del options
    path = arguments.get("evdev")
    if not path:
        return "no input device specified"
    return _opened(str(path)) or (None if str(path).startswith("/dev/input/") else f"{path}: is not an evdev device")


def _opened(path: str) -> str | None:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        return f"Could not open '{path}': {error.strerror}"
    return None


def _entropy_daemon(arguments: Values, options: EmulatorOptions) -> str | None:
    label = arguments.get("chardev")
    if not label:
        return "Parameter 'chardev' expects a valid character device"
    return None if label in options.chardevs.labels else f"Device '{label}' not found"


def _secret(arguments: Values, options: EmulatorOptions) -> str | None:
    data, path = arguments.get("data"), arguments.get("file")
    if data is not None and path is not None:
        return "'file' and 'data' are mutually exclusive"
    if data is None and path is None:
        return "Either 'file' or 'data' must be provided"
    content = b""
    if path is not None:
        try:
            with open(str(path), "rb") as file:
                content = file.read()
        except OSError as error:
            return f"Unable to read {path}: Failed to open file \u201c{path}\u201d: {error.strerror}"
    elif data is not None:
        content = str(data).encode("utf-8", "surrogateescape")
    key = arguments.get("keyid")
    if key is not None:
        before = [each for _, each in options.objects[: _place(arguments, options)] if each["qom-type"] == "secret"]
        if all(each["id"] != key for each in before):
            return f"No secret with id '{key}'"
        return "IV is required to decrypt secret" if "iv" not in arguments else None
    if arguments.get("format") == "base64":
        if _BASE64.fullmatch(content) is None:
            return "Base64 data contains invalid characters"
    return None


def _certificates(arguments: Values, options: EmulatorOptions) -> str | None:
    del options
    folder = arguments.get("dir")
    if folder is None:
        return "Missing 'dir' property value"
    for name in _X509[str(arguments.get("endpoint", "client"))]:
        path = os.path.join(str(folder), name)
        try:
            os.stat(path)
        except OSError as error:
            return f"Unable to access credentials {path}: {error.strerror}"
    return None


def _keys(arguments: Values, options: EmulatorOptions) -> str | None:
    del options
    folder = arguments.get("dir")
    if folder is None:
        return "Missing 'dir' property value"
    path = os.path.join(str(folder), "keys.psk")
    try:
        os.stat(path)
    except OSError as error:
        return f"Unable to access credentials {path}: {error.strerror}"
    return None


def _place(arguments: Values, options: EmulatorOptions) -> int:
    """How many objects come before this one on the line."""
    return next(number for number, (_, each) in enumerate(options.objects) if each is arguments)


def _threads(arguments: Values, options: EmulatorOptions) -> str | None:
    del options
    least, most = arguments.get("thread-pool-min", 0), arguments.get("thread-pool-max", _MOST_THREADS)
    if isinstance(least, int) and isinstance(most, int) and least > most:
        return "bad thread-pool-min/thread-pool-max values"
    return None


def _throttle(arguments: Values, options: EmulatorOptions) -> str | None:
    del options
    limits = {name.removeprefix("x-"): value for name, value in arguments.items() if name.startswith("x-")}
    numbers = {name: value for name, value in limits.items() if isinstance(value, int)}
    if any(value < 0 for value in numbers.values()):
        return "Property values cannot be negative"
    for unit in ("bps", "iops"):
        if numbers.get(f"{unit}-total") and (numbers.get(f"{unit}-read") or numbers.get(f"{unit}-write")):
            return "bps/iops/max total values and read/write values cannot be used at the same time"
    return None


def _crypto_backend(arguments: Values, options: EmulatorOptions) -> str | None:
    label = arguments.get("chardev")
    return None if label in options.chardevs.labels else f"Device '{label}' not found"


def _filter(arguments: Values, options: EmulatorOptions) -> str | None:
    known = {entry.identifier for entry in options.groups.find("netdev")} | {
        str(values["id"]) for _, values in options.netdevs
    }
    if arguments.get("netdev") not in known:
        return "Parameter 'netdev' expects a network backend id"
    if arguments.get("interval") == 0:
        return f"Property '{arguments['qom-type']}.interval' requires a positive value"
    path = arguments.get("file")
    if isinstance(path, str) and not os.path.isdir(os.path.dirname(path) or "."):
        return f"net dump: can't open {path}: No such file or directory"
    for name in ("outdev", "indev"):
        label = arguments.get(name)
        if label is not None and label not in options.chardevs.labels:
            return f"Device '{label}' not found"
    return None


_CHECKS: dict[str, Callable[[Values, EmulatorOptions], str | None]] = {
    "cryptodev-vhost-user": _crypto_backend,
    "input-linux": _event_device,
    "iothread": _threads,
    "throttle-group": _throttle,
    "memory-backend": _memory,
    "rng-egd": _entropy_daemon,
    "rng-random": _random,
    "secret": _secret,
    "tls-creds-psk": _keys,
    "tls-creds-x509": _certificates,
}
