"""The projects in docs/examples are run as they stand there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import DOCS
from tests.testing.test_plugin import plugins

EXAMPLES = DOCS / "examples"
LIMIT = 60
"""Seconds for one example; a compiler may have to compile its standard library first."""


@pytest.fixture
def qmpd(tmp_path: Path) -> str:
    """A program `qmpd` of this very checkout."""
    program = tmp_path / "qmpd"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m qmpd "$@"\n')
    program.chmod(0o755)
    return str(program)


def run(*command: str, folder: Path, **environment: str) -> None:
    found = {**os.environ, "PYTHONPATH": str(DOCS.parent), **environment}
    ended = subprocess.run(
        command, cwd=folder, env=found, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def needs(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def copied(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")))


def test_every_example_is_in_the_table() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for folder in EXAMPLES.iterdir():
        assert not folder.is_dir() or f"| `{folder.name}` |" in table


@pytest.mark.parametrize(("name", "passed"), [("pytest", 4), ("asyncio", 1)])
def test_with_pytest(name: str, passed: int, pytester: pytest.Pytester) -> None:
    for file in (EXAMPLES / name).glob("*.py"):
        shutil.copy(file, pytester.path)
    outcome = pytester.runpytest_subprocess(*plugins(), "-p", "no:trio", "-p", "no:cacheprovider")
    outcome.assert_outcomes(passed=passed)


def test_with_unittest(tmp_path: Path) -> None:
    run(sys.executable, "-W", "error", "-m", "unittest", "-q", folder=copied("unittest", tmp_path))


def test_with_bash(tmp_path: Path, qmpd: str) -> None:
    needs("socat")
    run("./test.sh", folder=copied("bash", tmp_path), QMPD=qmpd)


def test_with_go(tmp_path: Path, qmpd: str) -> None:
    go = needs("go")
    run(go, "test", "./...", folder=copied("go", tmp_path), QMPD=qmpd, GOFLAGS="-mod=mod", GOPROXY="off")


def test_with_node(tmp_path: Path, qmpd: str) -> None:
    node = needs("node")
    folder = copied("node", tmp_path)
    run(node, "--test", str(folder / "power.test.mjs"), folder=folder, QMPD=qmpd)


def load(name: str) -> dict[str, Any]:
    document = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def test_the_workflow_names_the_releases() -> None:
    from tests.golden import RELEASES

    workflow = load("github-actions/tests.yml")
    assert tuple(workflow["jobs"]["test"]["strategy"]["matrix"]["release"]) == RELEASES


def test_the_service_is_started_as_it_can_be() -> None:
    from qmpd.cli.serve import parse

    service = load("docker/compose.yaml")["services"]["qmpd"]
    name, *arguments = service["command"]
    assert name == "serve"
    parsed = parse(arguments)
    assert parsed is not None
    assert parsed[0].control is not None
