"""How a release's human monitor tells of migrations: the lines of `info migrate_parameters`, and the globals' lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.capture.client import Client

PLACE = "{}"
"""Stands in a line for the value."""
_LINE = re.compile(r"([a-z-]+):( ?'?)(.*)")
_ONLY_MIGRATABLE = "only-migratable"


def learn(client: Client) -> dict[str, str]:
    """The lines, as `human-monitor.json` has them beside the help."""
    values = client.ask("query-migrate-parameters").result
    parameters = _told(client, "info migrate_parameters")
    # Some releases tell of the globals only where they are asked for everything.
    shared = _told(client, "info migrate") or _told(client, "info migrate -a")
    return {
        "migrate-parameters": "".join(f"{_parameter(line, values)}\n" for line in parameters),
        "migrate-globals": "".join(f"{_global(line)}\n" for line in shared),
    }


def _told(client: Client, line: str) -> list[str]:
    text: str = client.ask("human-monitor-command", {"command-line": line}).result
    return text.splitlines()


def _parameter(line: str, values: Mapping[str, Any]) -> str:
    match = _LINE.fullmatch(line)
    if match is None or match[1] not in values:
        return line
    value = values[match[1]]
    text = ("on" if value else "off") if isinstance(value, bool) else "" if isinstance(value, list) else str(value)
    return f"{match[1]}:{match[2]}{PLACE}{match[3].removeprefix(text)}"


def _global(line: str) -> str:
    name, colon, _ = line.partition(": ")
    return f"{name}{colon}{PLACE}" if name.strip() == _ONLY_MIGRATABLE else line
