"""The short form of a character device, as `-serial`, `-monitor` and their like take it: `unix:/path,server=on`.

What comes out is the list of options that it stands for.  (QEMU's `qemu_chr_parse_compat`, chardev/char.c.)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qmpd.common.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    # Takes a list of options, whose first value may stand for this key.
    ReadList = Callable[[str, "str | None"], dict[str, str]]

_TCP = re.compile(r"(\[[^\]]*\]|[^:,\[]*):([^,]+)((?:,.*)?)\Z", re.DOTALL)
_UDP = re.compile(r"([^:]*):([^@,]+)(?:@([^:]*):([^,]+))?")
_CONSOLE = re.compile(r"vc:([0-9]+)(C?)x([0-9]+)(C?)\Z")
_BARE = ("null", "pty", "msmouse", "wctablet", "braille", "testdev", "stdio")
_DEVICES = ("file", "pipe", "serial", "tty")
_STREAMS = ("tcp", "telnet", "tn3270", "websocket")
MULTIPLEXED = "mon:"
"""What the short form begins with where a monitor is to share the device."""


def read_short(text: str, read_list: ReadList) -> dict[str, str]:
    """The options that a short form stands for, `backend` among them; `read_list` takes what is a list in it.

    :raise Refusal: it is none.
    """
    if text.startswith(MULTIPLEXED):
        options = read_short(text.removeprefix(MULTIPLEXED), read_list)
        return {**options, "mux": "on", **({"signal": "off"} if options["backend"] == "stdio" else {})}
    if text in _BARE:
        return {"backend": text}
    if text.startswith("vc"):
        return {"backend": "vc", **_console(text)}
    if text == "con:":
        return {"backend": "console"}
    head, colon, rest = text.partition(":")
    if colon and head in _DEVICES:
        return {"backend": head, "path": rest}
    if colon and head == "unix":
        return {"backend": "socket", **read_list(rest, "path")}
    if colon and head in _STREAMS:
        return _stream(head, rest, read_list)
    if colon and head == "udp":
        return _datagrams(rest)
    if text.startswith("/dev/parport"):
        return {"backend": "parallel", "path": text}
    if text.startswith("/dev/"):
        return {"backend": "serial", "path": text}
    raise Refusal("chardev-short-form", text=text)


def _console(text: str) -> dict[str, str]:
    if not text.startswith("vc:"):
        return {}
    match = _CONSOLE.match(text)
    if match is None:
        raise Refusal("chardev-short-form-silent")
    width, height = ("cols" if match[2] else "width"), ("rows" if match[4] else "height")
    return {width: match[1], height: match[3]}


def _stream(head: str, rest: str, read_list: ReadList) -> dict[str, str]:
    match = _TCP.match(rest)
    if match is None:
        raise Refusal("chardev-short-form-silent")
    options = {"backend": "socket", "host": match[1].strip("[]"), "port": match[2]}
    if head != "tcp":
        options[head] = "on"
    return options | read_list(match[3][1:], None)


def _datagrams(rest: str) -> dict[str, str]:
    match = _UDP.match(rest)
    if match is None:
        raise Refusal("chardev-short-form-silent")
    options = {"backend": "udp", "host": match[1], "port": match[2]}
    return options | ({"localaddr": match[3], "localport": match[4]} if match[4] else {})
