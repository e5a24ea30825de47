"""`-qmp` and `-qmp-pretty`: where a monitor listens.

The argument is a character device in the short form (`unix:PATH,server=on,...`), a flat list whose keys
are those of `-chardev`.  Here only Unix sockets that listen are served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.addresses import PATH_LIMIT, is_abstract, is_too_long, socket_name, socket_path
from qmpd.common.refusals import Refusal
from qmpd.option_language import key_values
from qmpd.option_language.errors import OptionError
from qmpd.option_language.key_values import BOOL, NUMBER, STRING
from qmpd.option_language.options import Option
from qmpd.server.settings import MonitorSettings

if TYPE_CHECKING:
    from qmpd.option_language.options import Given

_SECTION = "Where it listens"
_ADDRESS = "unix:PATH,server=on,wait=off[,exclusive=on][,abstract=on]"

OPTIONS = (
    Option("socket", "PATH", _SECTION, "short for -qmp unix:PATH,server=on,wait=off"),
    Option(
        "qmp", _ADDRESS, _SECTION, "a QMP socket; wait=on starts with its first client, exclusive=on has one at a time"
    ),
    Option("qmp-pretty", _ADDRESS, _SECTION, "the same, indented for reading"),
    Option("gdb", "DEVICE", _SECTION, "a debugger may connect there: tcp:[HOST]:PORT, or unix:PATH,server=on,wait=off"),
    Option("s", None, _SECTION, "short for -gdb tcp::1234"),
)

_TYPES = {
    **dict.fromkeys(("id", "path", "host", "port", "fd", "localaddr", "localport", "name", "chardev"), STRING),
    **dict.fromkeys(("logfile", "tls-creds", "tls-authz", "backend", "input-path"), STRING),
    **dict.fromkeys(("server", "wait", "exclusive", "delay", "ipv4", "ipv6", "telnet", "tn3270", "websocket"), BOOL),
    **dict.fromkeys(("mux", "signal", "append", "logappend", "tight", "abstract", "mouse", "clipboard"), BOOL),
    **dict.fromkeys(("to", "reconnect", "reconnect-ms", "width", "height", "cols", "rows", "size", "debug"), NUMBER),
}
# What changes the socket itself: refused where it is asked for, since nothing here does it.
_NOT_SERVED = ("telnet", "tn3270", "websocket", "mux", "fd", "logfile", "tls-creds", "tls-authz")
_OTHER_DEVICES = ("chardev:", "con:", "file:", "mon:", "pipe:", "stdio", "tcp:", "telnet:", "tn3270:", "udp:", "vc")
_MORE_DEVICES = ("websocket:", "/dev/", "pty", "null", "braille", "msmouse", "wctablet")


def monitor(given: Given, index: int) -> MonitorSettings:
    """The monitor that `-qmp`, `-qmp-pretty` or `--socket` asks for, the `index`-th of its line.

    :raise OptionError: the address is wrong, or not served here.
    """
    try:
        if given.option.name == "socket":
            path, wait, exclusive = given.value, False, False
        else:
            path, wait, exclusive = _address(given.value)
        _checked_path(path)
    except Refusal as error:
        raise error.at(given.location) from None
    return MonitorSettings(
        path=path,
        wait=wait,
        exclusive=exclusive,
        pretty=given.option.name == "qmp-pretty",
        chardev=f"compat_monitor{index}",
    )


def control(given: Given) -> MonitorSettings:
    """The control socket that `-control PATH` or `-control unix:PATH` asks for; it listens and does not wait.

    :raise OptionError: the address is wrong.
    """
    try:
        if not given.value.startswith("unix:"):
            if given.value.startswith(_OTHER_DEVICES + _MORE_DEVICES):
                raise OptionError("only a path, or unix:PATH, is served")
            return MonitorSettings(path=_checked_path(given.value), chardev="control")
        values = dict(key_values.flat_list(given.value[len("unix:") :], "path"))
        path = values.pop("path", "")
        pretty = key_values.boolean("pretty", values.pop("pretty", "off"))
        if values:
            raise OptionError(f"Invalid parameter '{next(iter(values))}'")
        return MonitorSettings(path=_checked_path(path), pretty=pretty, chardev="control")
    except Refusal as error:
        raise error.at(given.location) from None


def _checked_path(path: str) -> str:
    if not path:
        raise OptionError("a path is missing")
    if is_too_long(path):
        most = PATH_LIMIT - is_abstract(path)
        raise OptionError(
            f"UNIX socket path '{socket_name(path)}' is too long", hint=(f"Path must be less than {most} bytes",)
        )
    return path


def _address(text: str) -> tuple[str, bool, bool]:
    """The path, and whether it waits and is exclusive."""
    if not text.startswith("unix:"):
        if text.startswith(_OTHER_DEVICES + _MORE_DEVICES):
            raise OptionError("only unix: is served")
        raise OptionError(f"'{text}' is not a valid char driver")
    values = key_values.check_flat_list(key_values.flat_list(text[len("unix:") :], "path"), _TYPES)
    server = values.get("server", False)
    if not server:
        if "wait" in values:
            raise OptionError("'wait' option is incompatible with socket in client connect mode")
        raise OptionError("connecting is not served, only listening: server=on is missing")
    if "reconnect" in values or "reconnect-ms" in values:
        raise OptionError("'reconnect' option is incompatible with socket in server listen mode")
    for key in _NOT_SERVED:
        if values.get(key):
            raise OptionError(f"'{key}' is not served")
    return socket_path({"path": "", **values}), bool(values.get("wait", True)), bool(values.get("exclusive", False))
