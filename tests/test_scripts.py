"""The scripts that make the environment, where what they need is missing: each fails with one line."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ("sh", "cmp", "flock", "rm", "cp", "mv", "mkdir", "readlink", "dirname", "sleep")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without its environment, and a folder `bin` with just what the scripts may use."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        if found is not None:
            (tmp_path / "bin" / tool).symlink_to(found)
    return folder


def run(checkout: Path, script: str, *arguments: str, **variables: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "scripts" / script, *arguments],
        env={"PATH": str(checkout.parent / "bin"), **{name: str(value) for name, value in variables.items()}},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)


@pytest.mark.parametrize("script", ["qmpd", "test"])
def test_without_python(checkout: Path, script: str) -> None:
    ended = run(checkout, script)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "qmpd: python3 3.11 or later is needed (Debian: apt install python3 python3-venv)\n"


def test_with_an_old_python(checkout: Path) -> None:
    program(checkout.parent / "bin" / "python3", "exit 1\n")
    ended = run(checkout, "qmpd")
    assert ended.returncode == 1
    assert ended.stderr == "qmpd: python3 3.11 or later is needed (Debian: apt install python3 python3-venv)\n"


def test_without_the_venv_module(checkout: Path) -> None:
    program(checkout.parent / "bin" / "python3", "case $2 in *ensurepip*) exit 1 ;; esac\n")
    ended = run(checkout, "qmpd")
    assert ended.returncode == 1
    assert ended.stderr == "qmpd: the venv module of python3 is missing (Debian: apt install python3-venv)\n"


def test_a_ready_environment_is_used_as_it_is(checkout: Path) -> None:
    program(checkout / ".venv" / "bin" / "qmpd", 'echo "$@"\n')
    shutil.copy(checkout / "pyproject.toml", checkout / ".venv" / "made-from-pyproject.toml")
    ended = run(checkout, "qmpd", "serve", "two words")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "serve two words\n", "")


def test_a_changed_project_brings_the_environment_up_to_date(checkout: Path) -> None:
    program(checkout / ".venv" / "bin" / "qmpd", 'echo "$@"\n')
    program(checkout / ".venv" / "bin" / "python", 'echo "$@" >>"${0%/*}/calls"\n')
    made_from = checkout / ".venv" / "made-from-pyproject.toml"
    made_from.write_text("another project\n")
    ended = run(checkout, "qmpd", "serve")
    assert (ended.returncode, ended.stdout) == (0, "serve\n")
    assert ended.stderr == f"qmpd: bringing the virtual environment in {checkout}/.venv up to date\n"
    assert made_from.read_text() == (checkout / "pyproject.toml").read_text()
    calls = (checkout / ".venv" / "bin" / "calls").read_text().splitlines()
    assert any("install" in call and call.endswith(f"-e {checkout}") for call in calls)


def test_a_failed_installation_is_not_taken_for_a_ready_one(checkout: Path) -> None:
    program(checkout / ".venv" / "bin" / "python", "case $3 in install) exit 1 ;; esac\n")
    ended = run(checkout, "qmpd", "serve")
    assert ended.returncode == 1
    assert ended.stderr.endswith(f"qmpd: cannot install what pyproject.toml asks for into {checkout}/.venv\n")
    assert not (checkout / ".venv" / "made-from-pyproject.toml").exists()


def test_another_environment_of_another_python(checkout: Path) -> None:
    """As `.ci/run` has it for each Python: made afresh with that one, while the developer's own stays as it is."""
    environment = checkout.parent / "other"
    # It makes an environment whose python only writes down what it is asked to do.
    making = 'case $2 in *ensurepip*|*version_info*) exit 0 ;; esac\nmkdir -p "$4/bin"\ncp "$0" "$4/bin/python"\n'
    noting = 'case ${0##*/} in python) echo "$@" >>"${0%/*}/calls"; exit 0 ;; esac\n'
    program(checkout.parent / "other-python3", noting + making)
    for name in ("ruff", "mypy", "lint-imports"):
        program(environment / "bin" / name, "exit 1\n")
    variables = {"ENVIRONMENT": environment, "PYTHON": checkout.parent / "other-python3"}
    ended = run(checkout, "test", "--tests", "tests/wire", **variables)
    assert (ended.returncode, ended.stdout) == (0, "== pytest\n")
    assert ended.stderr == f"qmpd: making a virtual environment in {environment}, once\n"
    calls = (environment / "bin" / "calls").read_text().splitlines()
    assert any("install" in call and call.endswith(f"-e {checkout}[test]") for call in calls)
    assert calls[-1].startswith("-m pytest ")
    assert calls[-1].endswith(" tests/wire")
    assert not (checkout / ".venv").exists()


def test_a_link_to_the_script_finds_its_checkout(checkout: Path) -> None:
    program(checkout / ".venv" / "bin" / "qmpd", "echo ran\n")
    shutil.copy(checkout / "pyproject.toml", checkout / ".venv" / "made-from-pyproject.toml")
    link = checkout.parent / "link"
    link.symlink_to(os.path.relpath(checkout / "scripts" / "qmpd", link.parent))
    ended = subprocess.run(
        [link], env={"PATH": str(checkout.parent / "bin")}, capture_output=True, text=True, timeout=20, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "ran\n")
