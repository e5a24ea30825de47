"""One grammar for all subcommands, what a wrong word is answered, completion in shells, and the man page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from qmpd.cli import main, serve
from qmpd.cli.completion import script
from qmpd.cli.declarations import whole

if TYPE_CHECKING:
    from pathlib import Path

WRONG = [
    (["sevre"], "qmpd: sevre: no such subcommand; did you mean 'serve'?"),
    (["--verison"], "qmpd: --verison: no such option; did you mean '--version'?"),
    (["serve", "--sockt", "x"], "qmpd: --sockt: invalid option; did you mean '--socket'?"),
    (["serve", "-machne", "none"], "qmpd: -machne: invalid option; did you mean '-machine'?"),
    (["serve", "--guest", "on-powerdwn=none"], "Invalid parameter 'on-powerdwn'; did you mean 'on-powerdown'?"),
    (["serve", "--guest", "on-unplug=ignroe"], "does not accept value 'ignroe'; did you mean 'ignore'?"),
    (["serve", "--release", "7.3"], "known are"),
    (["serve", "--extension", "live-udpate"], "did you mean 'live-update'?"),
    (["serve", "--clock", "vritual"], "did you mean 'virtual'?"),
    (["serve", "--log-format", "jsno"], "did you mean 'json'?"),
    (["serve", "vm.sock"], "qmpd: vm.sock: unexpected argument (a socket is given with --socket PATH)"),
    (["fleet", "--cuont", "1", "--dir", "x"], "qmpd: fleet takes --count N and --dir DIR (see qmpd fleet --help)"),
    (["fleet", "--count=1", "--dir=x", "--metrisc", "1"], "--metrisc: invalid option; did you mean '--metrics'?"),
    (["fleet", "--count"], "qmpd: --count: needs a value"),
    (["control", "--folow", "x"], "qmpd control: --folow: no such option; did you mean '--follow'?"),
    (["commands", "--releas", "7.2"], "qmpd commands: --releas: no such option; did you mean '--release'?"),
    (["timeline", "--titel", "x", "y"], "qmpd timeline: --titel: no such option; did you mean '--title'?"),
    (["graph", "run-state"], "qmpd graph: run-state: no such diagram; did you mean 'run-states'?"),
    (["graph", "--format=sgv"], "qmpd graph: --format: sgv: no such format; did you mean 'svg'?"),
    (["capture", "-qmeu", "x"], "qmpd capture: -qmeu: no such option; did you mean '--qemu'? (--help tells more)"),
    (["capture", "--qemu", "a", "--qemu", "b"], "qmpd capture: --qemu: given twice (--help tells more)"),
    (["completion", "basch"], "qmpd completion: basch: no such shell; did you mean 'bash'?"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "told"), WRONG, ids=[" ".join(line) for line, _ in WRONG])
def test_a_wrong_word_is_told_with_the_one_that_was_meant(
    line: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(line) == 1
    error = capsys.readouterr().err
    assert told in error.splitlines()[0]
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("name", main.SUBCOMMANDS)
@pytest.mark.parametrize("spelling", ["-h", "-help", "--help"])
def test_every_subcommand_explains_itself(name: str, spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([name, spelling]) == 0
    assert capsys.readouterr().out.startswith(f"usage: qmpd {name}")


def test_values_stand_behind_options_or_after_an_equals_sign() -> None:
    for text in ("--socket a --clock virtual", "--socket=a --clock=virtual", "-socket a -clock virtual"):
        parsed = serve.parse(text.split())
        assert parsed is not None
        assert (parsed[0].monitors[0].path, parsed[0].clock) == ("a", "virtual")
    for line in (["--control", "c.sock"], ["-control", "unix:c.sock"], ["--control=unix:c.sock"]):
        parsed = serve.parse(line)
        assert parsed is not None
        assert parsed[0].control is not None
        assert parsed[0].control.path == "c.sock"


def words(shell: str, line: str, folder: Path) -> list[str]:
    """What a shell offers for the last word of a line."""
    file = folder / "completion"
    file.write_text(script(shell), encoding="utf-8")
    *before, last = line.split(" ")
    if shell == "bash":
        asked = f"""
            source {file}
            COMP_WORDS=({" ".join(before)} '{last}'); COMP_CWORD={len(before)}
            COMP_LINE='{line}'; COMP_POINT={len(line)}
            _shtab_qmpd qmpd '{last}' '{before[-1]}'
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        ended = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, timeout=20, check=False)
    else:
        # The least of a terminal in which zsh's line editor runs.
        asked = f"""
            zmodload zsh/zpty
            zpty z zsh -f -i
            zpty -w z "PROMPT=; autoload -Uz compinit; compinit -D -u; source {file}; compdef _shtab_qmpd qmpd"
            zpty -w z "LISTMAX=10000; print re''ady"
            zpty -r z out '*ready*'
            zpty -n -w z $'{line}\\t\\t'
            for i in {{1..20}}; do sleep 0.1; zpty -rt z more && out+="$more"; done
            print -r -- "$out"
            zpty -d z
        """
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200"}
        command = ["zsh", "-f", "-c", asked]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)
    return ended.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    pytest.importorskip("shtab", reason="shtab is not installed")
    assert {"serve", "fleet", "control", "timeline"} <= set(words(shell, "qmpd ", tmp_path))
    assert {"--socket", "--clock"} <= set(words(shell, "qmpd serve --", tmp_path))


def test_the_man_page(tmp_path: Path) -> None:
    manpage = pytest.importorskip("argparse_manpage.manpage", reason="argparse-manpage is not installed")
    text = str(manpage.Manpage(whole()))
    for name in main.SUBCOMMANDS:
        assert f"qmpd {name}" in text.replace("\\-", "-")
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    page = tmp_path / "qmpd.1"
    page.write_text(text, encoding="utf-8")
    command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, env=environment)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_nobody_asks_for_costs_nothing() -> None:
    program = "import sys; from qmpd.cli import serve; serve.parse(['--socket', 'x']); print('argparse' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
