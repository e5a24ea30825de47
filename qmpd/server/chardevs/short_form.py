"""The short form of a character device: `null`, `tcp:HOST:PORT,server=on`, `unix:PATH` and so on.

`-serial`, `-gdb` and the human monitor's `gdbserver` take it (chardev/char.c, `qemu_chr_parse_compat`).
"""

from __future__ import annotations

import re

from qmpd.option_language.key_values import flat_list

BARE = ("null", "pty", "msmouse", "wctablet", "braille", "testdev", "stdio")
"""The devices whose short form is their name."""

_TCP = re.compile(r"(\[[^\]]*\]|[^:,\[]*):([^,]+)((?:,.*)?)\Z", re.DOTALL)
_UDP = re.compile(r"([^:]*):([^@,]+)(?:@([^:]*):([^,]+))?")
_CONSOLE = re.compile(r"vc:\d+C?x\d+C?\Z")
_PATHS = ("file", "pipe", "serial", "tty")
_PORTS = ("tcp", "telnet", "tn3270", "websocket")


class ShortFormError(Exception):
    """A short form that is none; the text is QEMU's first line, which can be empty."""


def read(text: str) -> list[tuple[str, str]]:
    """What `-chardev` would be given instead, pair by pair; whether the keys are known is not looked at.

    :raise ShortFormError: it is none.
    """
    if text.startswith("mon:"):
        pairs = read(text.removeprefix("mon:"))
        return [*pairs, ("mux", "on"), *([("signal", "off")] if ("backend", "stdio") in pairs else [])]
    if text in BARE:
        return [("backend", text)]
    if text.startswith("vc"):
        if text.startswith("vc:") and _CONSOLE.match(text) is None:
            raise ShortFormError
        return [("backend", "vc")]
    if text == "con:":
        return [("backend", "console")]
    head, colon, rest = text.partition(":")
    if colon and head in _PATHS:
        return [("backend", head), ("path", rest)]
    if colon and head == "unix":
        return [("backend", "socket"), *flat_list(rest, "path")]
    if colon and head in _PORTS:
        return _port(head, rest)
    if colon and head == "udp":
        return _datagrams(rest)
    if text.startswith("/dev/parport"):
        return [("backend", "parallel"), ("path", text)]
    if text.startswith("/dev/"):
        return [("backend", "serial"), ("path", text)]
    raise ShortFormError(f"'{text}' is not a valid char driver")


def _port(kind: str, text: str) -> list[tuple[str, str]]:
    """A TCP socket: HOST:PORT and more."""
    match = _TCP.match(text)
    if match is None:
        raise ShortFormError
    pairs = [("backend", "socket"), ("host", match[1].strip("[]")), ("port", match[2])]
    if kind != "tcp":
        pairs.append((kind, "on"))
    return [*pairs, *flat_list(match[3][1:])]


def _datagrams(text: str) -> list[tuple[str, str]]:
    """A UDP socket: HOST:PORT@LOCALHOST:LOCALPORT."""
    match = _UDP.match(text)
    if match is None:
        raise ShortFormError
    pairs = [("backend", "udp"), ("host", match[1]), ("port", match[2])]
    return [*pairs, ("localaddr", match[3]), ("localport", match[4])] if match[4] else pairs
