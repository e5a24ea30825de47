"""The machines that command lines make, against those that real QEMU makes of the same lines."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from qmpd.server import log
from qmpd.server.virtual_machine import VirtualMachine
from tests.cli.test_emulator_lines import KVM, run
from tests.devices import WITHOUT_PSEUDO_TERMINALS
from tests.golden import emulator_line, machine_made

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.hardware.inventory import Inventory
    from qmpd.server.settings import VMSettings


MADE = ("/machine/peripheral", "/objects", "query-named-block-nodes")
"""The questions about what a line asks for by name: what is missing from the answer has to be told."""


class Asking:
    """Stands in for the server: asks the machine that it is handed, instead of serving it."""

    def __init__(self) -> None:
        self.line = ""
        self.answers: dict[str, dict[str, Any]] | None = None

    def serve(
        self,
        settings: VMSettings,
        on_start: Callable[[], None] | None = None,
        tell: Callable[[str], None] | None = None,
        inventory: Inventory | None = None,
    ) -> int:
        vm = VirtualMachine(settings, inventory=inventory)
        vm.listen(tell)
        try:
            if on_start is not None:
                on_start()
            vm.start()
            session = vm.dispatcher.open_session()
            session.take_outgoing()
            session.receive(machine_made.talk(self.line))
            while session.queue and vm.system.exit_status is None:
                vm.dispatcher.run_requests()
            self.answers = machine_made.answers(self.line, session.take_outgoing())
        finally:
            vm.let_go()
        return 0


@pytest.mark.parametrize("release", emulator_line.RELEASES)
def test_machines(release: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asking = Asking()
    monkeypatch.setenv("QMPD_RELEASE", release)
    monkeypatch.delenv("QMPD_OPTIONS", raising=False)
    monkeypatch.setattr("qmpd.server.serve.serve", asking.serve)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/qmpd-system-x86_64"])
    monkeypatch.setattr(log, "name", "qmpd")
    monkeypatch.setattr(log, "timestamp", False)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: KVM[release] if path == "/dev/kvm" else access(path, mode))
    left_out = machine_made.left_out()
    differences: list[str] = []
    unneeded: list[str] = []
    equal = 0
    for row in machine_made.load(release):
        line = asking.line = row["line"]
        status, said, _ = run(line, capsys, "-qmp", "stdio")
        answers, asking.answers = asking.answers, None
        if answers is None and WITHOUT_PSEUDO_TERMINALS and any("Failed to create PTY" in text for text in said):
            continue
        if answers is None:
            differences.append(f"{line}\n    ends with status {status} and {said}")
            continue
        for question, want in row["answers"].items():
            got = answers[question]
            apart = (release, question, line) in left_out
            equal += got == want
            if got == want and apart:
                unneeded.append(f"{release} {question} {line}")
            elif got != want and not apart:
                differences.append(f"{release} {question} {line}\n    got  {got}\n    want {want}")
            # Character devices have ways of their own to tell.
            if question in MADE and _names(want) - _names(got) and not any("left out" in text for text in said):
                differences.append(f"{release} {question} {line}: nobody is told\n    got  {got}\n    want {want}")
    print(f"{release}: {equal} answers as QEMU's, {sum(each[0] == release for each in left_out)} left out")
    assert not differences, "\n".join(differences)
    assert not unneeded, "equal by now, so not to be left out:\n" + "\n".join(unneeded)


def _names(reply: dict[str, Any]) -> set[str]:
    """What is in a list of objects, nodes or backends."""
    listed = reply.get("return", [])
    return {each.get("name") or each.get("node-name") or each.get("id") or each.get("label") or "" for each in listed}
