"""`scripts/bench` runs and tells what it measured; how fast anything is does not matter here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"
QEMU = shutil.which("qemu-system-x86_64") is not None


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it; where it hangs, it is told where."""
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    with subprocess.Popen(
        [BENCH, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            out, errors = process.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            out, errors = process.communicate(timeout=10)
            pytest.fail(f"it hangs\n{out}\n{errors}")
        finally:
            process.kill()
    assert process.returncode == 0, errors
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def test_everything_is_measured(tmp_path: Path) -> None:
    ended = run("--quick", "--json", str(tmp_path / "bench.json"))
    report = json.loads((tmp_path / "bench.json").read_text())
    assert {"processor", "kernel", "python", "qmpd", "trio"} <= report["machine"].keys()
    assert ("qemu" in report["machine"]) is QEMU
    rows = {row["name"]: row for row in report["measures"]}
    assert len(rows) == len(report["measures"]) >= 20
    for name, row in rows.items():
        # Between two looks memory may also become less; all else takes time.
        least = float("-inf") if "memory" in name else 0
        assert all(value > least for figures in row["figures"].values() for value in figures["rounds"])
        assert "qmpd" in row["figures"]
        # A pipe gets plain text.
        assert name in ended.stdout
        assert "\x1b" not in ended.stdout
    assert set(rows["query-status round trip, p50"]["ratios"]) == ({"QEMU"} if QEMU else set()) | {"trio", "blocking"}
    assert ("left out" in ended.stderr) is not QEMU


def test_it_says_that_qemu_is_left_out() -> None:
    ended = run("--quick", "--only", "arguments", "--qemu", "no-such-program", "--json", "-")
    assert "no-such-program" in ended.stderr
    assert "left out" in ended.stderr
    (row,) = json.loads(ended.stdout)["measures"]
    assert set(row["figures"]) == {"qmpd"}
