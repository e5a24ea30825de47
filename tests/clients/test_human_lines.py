"""Lines of the human monitor that act on what is never there, as each release answers them (measured)."""

from __future__ import annotations

import json

import pytest

from tests.golden import RELEASES
from tests.objects.support import InProcess

LINES = {
    "migrate_cancel": "",
    "migrate_start_postcopy": ("Error: Enable postcopy with migrate_set_capability before the start of migration\r\n"),
    "migrate_recover x:y": "Error: Migrate recover can only be run when postcopy is paused.\r\n",
    "migrate_recover": 'migrate_recover: string expected\r\nTry "help migrate_recover" for more information\r\n',
    "exit_preconfig x": (
        'exit_preconfig: extraneous characters at the end of line\r\nTry "help exit_preconfig" for more information\r\n'
    ),
    # Nothing is known of it but that nothing may follow.
    "info jit x": 'jit: extraneous characters at the end of line\r\nTry "help info jit" for more information\r\n',
    "info mice": "* Mouse #2: QEMU PS/2 Mouse\r\n",
}


@pytest.mark.parametrize("release", RELEASES)
def test_lines(release: str) -> None:
    machine = InProcess(release)
    for line, wanted in LINES.items():
        said = machine.said("human-monitor-command", {"command-line": line})
        assert json.loads(said[0]) == {"return": wanted}, line


@pytest.mark.parametrize("release", RELEASES)
def test_no_migration(release: str) -> None:
    machine = InProcess(release)
    assert machine.said("migrate_cancel") == machine.said("rtc-reset-reinjection") == [b'{"return": {}}']
    assert machine.said("migrate-continue", {"state": "none"}) == [b'{"return": {}}']
    refused = json.loads(machine.said("migrate-continue", {"state": "setup"})[0])
    assert refused["error"]["desc"] == "Migration not in expected state: none"
    machine.said("migrate-set-capabilities", {"capabilities": [{"capability": "postcopy-ram", "state": True}]})
    refused = json.loads(machine.said("migrate-start-postcopy")[0])
    assert refused["error"]["desc"] == "Postcopy must be started after migration has been started"
