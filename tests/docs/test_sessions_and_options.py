"""The documentation says what is: its sessions are played again, its table of options is made from the parser's.

`python -m tests.docs.test_sessions_and_options` writes the table anew.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from qmpd.cli import serve
from qmpd.cli.help import spelling
from tests.clients.programs import PATIENCE, QMP_SHELL, SOCAT, Server, serving
from tests.docs.pages import DOCS, PAGES
from tests.player import comparable

PATH = DOCS / "reference" / "options.md"
OPTIONS = PATH.read_text(encoding="utf-8")
BEFORE, AFTER = "<!-- options -->\n", "\n<!-- end of options -->"
SESSION = re.compile(r"<!-- (.+) session: serve (.+) -->\n```console\n\$ (.+)\n((?:.*\n)*?)```")
SESSIONS = [session for page in PAGES for session in SESSION.findall(page.read_text(encoding="utf-8"))]


def options_table() -> str:
    """The options as the reference tells them."""
    lines: list[str] = []
    section = ""
    for option in serve.OPTIONS:
        if option.meaning is None:
            continue
        if option.section != section:
            section = option.section
            lines += [f"| **{section}** | |"]
        cells = (f"`{spelling(option)}`", option.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(["| option | meaning |", "|---|---|", *lines])


def test_options() -> None:
    told = OPTIONS.partition(BEFORE)[2].partition(AFTER)[0]
    assert told == options_table(), "python -m tests.docs.test_sessions_and_options writes it anew"


def test_every_kind_of_session_is_there() -> None:
    assert [session[0] for session in SESSIONS] == ["socat", "qmp-shell", "qmp-shell -H"]


@pytest.mark.parametrize("program", [session[0] for session in SESSIONS])
def test_session(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options, command, shown = next(session[1:] for session in SESSIONS if session[0] == program)
    if program == "socat" and SOCAT is None:
        pytest.skip("socat is not installed")
    monkeypatch.chdir(tmp_path)
    with serving(Path("vm.sock"), *options.split(), listen=False) as server:
        if program == "socat":
            replay_socat(command.split(), shown)
        else:
            replay_shell(server, command.split()[1:], shown)


def replay_socat(command: list[str], shown: str) -> None:
    """What is typed are the lines that ask for something; the others are what is answered."""
    typed = [line for line in shown.splitlines() if '"execute"' in line]
    with subprocess.Popen(
        [str(SOCAT), *command[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as socat:
        assert socat.stdin is not None
        assert socat.stdout is not None
        for line in shown.splitlines():
            if line in typed:
                socat.stdin.write(line + "\n")
                socat.stdin.flush()
            else:
                assert comparable(socat.stdout.readline().rstrip()) == comparable(line)
        rest, _ = socat.communicate(timeout=PATIENCE)
        assert rest == ""


def replay_shell(server: Server, arguments: list[str], shown: str) -> None:
    """What is typed follows a prompt; it is not echoed where it does not come from a terminal."""
    typed = re.findall(r"^ ?\(QEMU\) (.*)$", shown, re.MULTILINE)
    ended = subprocess.run(
        [QMP_SHELL, *arguments],
        input="\n".join(typed),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    expected = re.sub(r"\(QEMU\) .*\n", "(QEMU) ", shown)
    assert comparable(ended.stdout).split() == comparable(expected).split()
    assert server.process.poll() is None


if __name__ == "__main__":
    head, mark, rest = OPTIONS.partition(BEFORE)
    PATH.write_text(head + mark + options_table() + AFTER + rest.partition(AFTER)[2], encoding="utf-8")
