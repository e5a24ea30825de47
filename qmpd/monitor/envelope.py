"""The frame around a command: `execute` or `exec-oob`, `arguments`, `id`.

The members are looked at in the order of QEMU's dictionary, so that of several mistakes the same one is
named (protocol.jsonl, scenarios `malformed` and `oob`).
"""

from __future__ import annotations

from qmpd.common.dictionary_order import in_order
from qmpd.monitor.errors import CommandError


def check(message: object, out_of_band_allowed: bool) -> tuple[str, dict[str, object]]:
    """Give the command's name and its arguments.

    :raise CommandError: where the message is no command; the text is QEMU's.
    """
    if not isinstance(message, dict):
        raise CommandError("QMP input must be a JSON object")
    name: str | None = None
    name_member = ""
    arguments: dict[str, object] = {}
    for member in in_order(tuple(message)):
        value = message[member]
        if member == "execute" or (member == "exec-oob" and out_of_band_allowed):
            if not isinstance(value, str):
                raise CommandError(f"QMP input member '{member}' must be a string")
            if name is not None:
                raise CommandError(f"QMP input member '{member}' clashes with '{name_member}'")
            name, name_member = value, member
        elif member == "arguments":
            if not isinstance(value, dict):
                raise CommandError("QMP input member 'arguments' must be an object")
            arguments = value
        elif member != "id":
            raise CommandError(f"QMP input member '{member}' is unexpected")
    if name is None:
        raise CommandError("QMP input lacks member 'execute'")
    return name, arguments
