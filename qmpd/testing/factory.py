"""What the fixture `qmpd` is: it starts VMs for one test, closes them, and tells of them where the test fails."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qmpd.testing import background
from qmpd.testing.starting import RELEASE, start
from qmpd.timeline.page import html

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

    from qmpd.testing.vm import VM

LINES = 200
"""Entries of a transcript that are shown in a report."""

DRAWN = 2000
"""Entries of a transcript that are drawn."""

WIDTH = 160

_started: set[int] = set()


class VMFactory:
    """Starts VMs: call it as `qmpd.testing.start`.  `vms` are those that it has started."""

    def __init__(
        self,
        config: pytest.Config,
        node: pytest.Item | pytest.Collector,
        release: str | None,
        temporary: pytest.TempPathFactory,
        artifacts: str | None,
    ) -> None:
        self.vms: list[VM] = []
        self._config = config
        self._node = node
        self._release = release or RELEASE
        self._temporary = temporary
        self._artifacts = artifacts
        self._told: set[str] = set()

    def __call__(
        self,
        *,
        machine: str = "pc",
        guest: str | Mapping[str, Any] | None = None,
        release: str | None = None,
        clock: str = "real",
        options: Sequence[str] = (),
        command_line: Sequence[str] | None = None,
        monitors: int = 1,
        exclusive: bool = False,
        wait: bool = False,
        subprocess: bool = False,
    ) -> VM:
        """Start a VM; see `qmpd.testing.start`.  Without a release it is the one that the test is run for.

        :raise StartError: an option is wrong, or a socket cannot be made.
        """
        _keep_thread(self._config)
        vm = start(
            machine=machine,
            guest=guest,
            release=release or self._release,
            clock=clock,
            options=options,
            command_line=command_line,
            monitors=monitors,
            exclusive=exclusive,
            wait=wait,
            subprocess=subprocess,
        )
        self.vms.append(vm)
        return vm

    def close(self) -> None:
        """Close the VMs.

        :raise RuntimeError: one of them has failed: a bug in qmpd.
        """
        failures = []
        for vm in self.vms:
            try:
                vm.close()
            except RuntimeError as failure:
                failures.append(failure)
        if failures:
            raise failures[0]

    def sections(self, item: pytest.Item) -> list[tuple[str, str]]:
        """What the report of a test is to show, once: for each VM a title and a text."""
        if item.nodeid in self._told:
            return []
        self._told.add(item.nodeid)
        return [(self._title(index), self._text(item, index, vm)) for index, vm in enumerate(self.vms, 1)]

    def _title(self, index: int) -> str:
        return "qmpd transcript" + (f" of VM {index}" if len(self.vms) > 1 else "")

    def _text(self, item: pytest.Item, index: int, vm: VM) -> str:
        lines = [each if len(each) <= WIDTH else each[: WIDTH - 1] + "…" for each in vm.report(LINES).splitlines()]
        try:
            lines.append(f"timeline: {self._draw(item, index, vm)}")
        except OSError as error:
            lines.append(f"there is no timeline: {error}")
        return "\n".join(lines)

    def _draw(self, item: pytest.Item, index: int, vm: VM) -> Path:
        folder = self._folder(item)
        name = "qmpd" if len(self.vms) == 1 else f"qmpd-{index}"
        if self._node is not item:
            # Tests may have VMs of their own beside those that they share.
            name += f"-{_scope(self._node)}"
        entries = vm.history
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(entry.members) + "\n" for entry in entries)
        page = folder / f"{name}.html"
        page.write_text(html(entries[-DRAWN:], f"{item.nodeid} · QEMU {vm.release}"), encoding="utf-8")
        return page

    def _folder(self, item: pytest.Item) -> Path:
        name = re.sub(r"[^\w.-]+", "-", item.nodeid).strip("-")[-100:]
        if self._artifacts is not None:
            folder = Path(self._config.invocation_params.dir, self._artifacts, name)
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        own = getattr(item, "funcargs", {}).get("tmp_path")
        if isinstance(own, Path) and own.is_dir():
            return own
        return self._temporary.mktemp(re.sub(r"\W+", "_", item.name)[:30] + "-qmpd")


def _scope(node: pytest.Item | pytest.Collector) -> str:
    return type(node).__name__.lower()


def _keep_thread(config: pytest.Config) -> None:
    """Let the background thread live until the end of the run, so that a VM that follows starts sooner."""
    if id(config) not in _started:
        _started.add(id(config))
        background.acquire()
        config.add_cleanup(lambda: _let_thread_end(config))


def _let_thread_end(config: pytest.Config) -> None:
    _started.discard(id(config))
    background.release()
