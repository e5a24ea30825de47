"""The help texts, made from the option table."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from qmpd.qapi import DEFAULT_RELEASE, release_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qmpd.option_language.options import Option

_WIDTH = 80
_COLUMN = 26

_OWN = (
    "socket", "release", "twin", "control", "guest", "transcript", "clock", "disk", "extension", "log-format", "help",
)  # fmt: skip

SERVE = """\
Serve one virtual machine as QEMU's monitor protocol (QMP) shows it. Options are
spelled as QEMU spells them, with one dash or two. Without -qmp and --socket it
listens in $XDG_RUNTIME_DIR, or in a folder of its own in the temporary folder.

-machine takes every machine type of the release (-machine help of the program
qmpd-system-x86_64 lists them). That program takes QEMU's whole command line:
-chardev, -netdev, -blockdev, -object, -daemonize and all the rest.
"""

SERVE_EXAMPLES = """\
  qmpd serve --socket /tmp/vm.sock -machine none
  qmpd serve -S -no-shutdown -name vm1 -qmp unix:/tmp/vm.sock,server=on,wait=off
"""


def serve_help(options: Iterable[Option]) -> str:
    """The text of `qmpd serve --help`."""
    sections: dict[str, list[str]] = {}
    for option in options:
        if option.meaning is not None:
            sections.setdefault(option.section, []).append(_entry(option))
    parts = ["usage: qmpd serve [OPTION]...\n", SERVE]
    parts += [f"{section}:\n{''.join(entries)}" for section, entries in sections.items()]
    parts.append(_wrapped("Releases: ", ", ".join(release_names()) + f" ({DEFAULT_RELEASE} unless said otherwise)."))
    parts.append(f"examples:\n{SERVE_EXAMPLES}")
    return "\n".join(parts)


def spelling(option: Option) -> str:
    """The option as the help and the manual spell it: QEMU's with one dash, qmpd's own words with two."""
    dashes = "--" if option.name in _OWN else "-"
    return f"{dashes}{option.name}" + (f" {option.argument}" if option.argument else "")


def _entry(option: Option) -> str:
    head = f"  {spelling(option)}"
    indent = " " * _COLUMN
    text = textwrap.fill(
        str(option.meaning), _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    if len(head) <= _COLUMN - 2:
        return f"{head:{_COLUMN}}{text.lstrip()}\n"
    return f"{head}\n{text}\n"


def _wrapped(head: str, text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head)) + "\n"
