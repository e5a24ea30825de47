"""A twin: the release and the answers of one VM that was running, copied into one file.

The file is a ZIP archive with what a release's folder has, as far as the VM could be asked for it without a risk to it,
and `twin.json`: what is known of the VM itself. `capture.live` writes it. What it does not have is the nearest
release's.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from qmpd.qapi import object_tree
from qmpd.qapi.errors import BadRelease
from qmpd.qapi.release import Release

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from qmpd.qapi.captured import CapturedError

# What these answer changes as the twin lives, or is no answer of the VM but of its monitor.
_ALIVE = frozenset({"query-status", "query-commands", "query-qmp-schema", "query-version"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinFacts:
    """What the VM was when it was copied.

    `base` names the release that it is nearest to, `status` is its run state, `memory` in bytes and `cpus` a count
    (both 0 where it is a machine without). `name` and `uuid` are None where it had none.
    """

    base: str
    status: str
    name: str | None
    uuid: str | None
    memory: int
    cpus: int
    machine_type: str


class Twin(Release):
    """A release whose answers are those of one VM."""

    def __init__(self, path: Path, load: Callable[[str], Release]) -> None:
        """Read the file; `load` gives the release that it builds on.

        :raise BadRelease: it is no twin's file.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                self._files = {name: archive.read(name) for name in archive.namelist()}
            self.facts = TwinFacts(**orjson.loads(self._files["twin.json"]))
        except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
            raise BadRelease(f"{path}: no twin's file ({error})") from error
        self._base = load(self.facts.base)
        super().__init__(path)
        self.name = self._base.name
        # Whoever looks for the schema document finds the nearest release's.
        self.directory = self._base.directory
        self.answered_first = frozenset(self.answers.commands) - _ALIVE

    def _read(self, name: str) -> bytes:
        try:
            return self._files[name]
        except KeyError:
            raise FileNotFoundError(name) from None

    def captured(
        self,
        command: str,
        arguments: Mapping[str, Any],
        machine_type: str,
        values: Mapping[str, int | str],
        *,
        modules: bool = False,
    ) -> bytes | CapturedError | None:
        """What the VM answered; where it was not asked, what the nearest release's reference machine did.

        But no other machine's objects answer for this one's.
        """
        own = super().captured(command, arguments, machine_type, values, modules=modules)
        if own is not None or command in object_tree.COMMANDS:
            return own
        return self._base.captured(command, arguments, machine_type, values, modules=modules)
