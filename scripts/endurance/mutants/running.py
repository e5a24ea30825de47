"""Run mutmut in a copy of the project, for a while at most, and read what it wrote down."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from endurance.defects.planting import MEMORY, ROOT, CannotRun
from endurance.mutants.mutant import Equivalent, Mutant, Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

TESTS = (
    "tests/machine", "tests/monitor", "tests/wire", "tests/schedule", "tests/test_recordings.py",
    "tests/qapi/test_arguments.py", "tests/control/test_hot_plug.py", "tests/control/test_one_turn.py",
    "tests/control/test_replies.py", "tests/objects/test_displays_and_limits.py", "tests/objects/test_over_a_socket.py",
    "tests/server/test_clients.py", "tests/server/test_deferred.py", "tests/server/test_forgetting.py",
    "tests/server/test_partial_sends.py", "tests/server/test_queue.py", "tests/server/test_received_files.py",
    "tests/server/test_turns.py",
)  # fmt: skip
"""Tests that run in one process and are quick."""

LEFT_OUT = (
    # mutmut's own imports would break it.
    "--deselect=tests/machine/test_tables_and_clocks.py::test_the_core_imports_no_input_output_and_no_json",
    # They start other programs, which mutmut would take for its own when they end.
    "--ignore=tests/wire/test_real_qemu.py",
)

TYPES = (
    "mypy", "--config-file=", "--strict", "--no-warn-return-any", "--no-warn-unused-ignores",
    "--disable-error-code=no-redef", "--output=json",
)  # fmt: skip
"""How mypy looks at all mutants at once: they are functions beside the original, so that a member is declared again in
each, and one with a decorator may have lost its type."""

GRACE = 20
"""Seconds that mutmut has to come to an end."""

EQUIVALENT = Path(__file__).parent / "equivalent.toml"


def equivalents() -> list[Equivalent]:
    """The mutants that are listed as equivalent."""
    with open(EQUIVALENT, "rb") as file:
        return [Equivalent(**each) for each in tomllib.load(file).get("mutant", ())]


def configure(folder: Path, files: Iterable[str], seed: int) -> None:
    """Write down in the copy what mutmut has to do; it may be written anew."""
    files = list(files)
    settings: dict[str, object] = {
        "source_paths": ["qmpd"],
        "only_mutate": files,
        "also_copy": ["schemas", "scripts", "docs", "README.md", "LICENSE"],
        "pytest_add_cli_args_test_selection": list(TESTS),
        "pytest_add_cli_args": [
            "-n0", "-p", "no:cacheprovider", f"--hypothesis-seed={seed}",
            *LEFT_OUT,
        ],
        "type_check_command": [*TYPES, *files],
        "use_git_change_detection": False,
        "track_dependencies": False,
        # Tests may leave processes behind that are about to end; those of one process alone would be in its way.
        "process_isolation": "forkserver",
        "timeout_multiplier": 2.0,
        "timeout_constant": 2.0,
    }  # fmt: skip
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text(f"{project}\n[tool.mutmut]\n{''.join(lines)}", encoding="utf-8")


def made(folder: Path, files: Iterable[str]) -> list[Mutant]:
    """All mutants of these files.

    :raise CannotRun: mutmut fails; the text is what it says.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "endurance.mutants.making", *files],
        cwd=folder, env=_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ended.returncode:
        raise CannotRun(ended.stderr[-2000:])
    return [Mutant(**each) for each in json.loads(ended.stdout)]


def run(folder: Path, chosen: Iterable[Mutant], processes: int, seconds: float) -> None:
    """Have mutmut look at the chosen mutants, for so long at most.

    :raise CannotRun: it fails; the text is the end of what it says.
    """
    log = folder / "mutmut.log"
    command = [sys.executable, "-m", "mutmut", "run", f"--max-children={processes}", *(each.key for each in chosen)]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
        try:
            status: int | None = process.wait(max(seconds, 1))
        except subprocess.TimeoutExpired:
            status = None
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        finally:
            # Mutants may well leave processes behind.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status:
        raise CannotRun(log.read_text(encoding="utf-8", errors="replace")[-3000:])


def verdicts(folder: Path, chosen: Iterable[Mutant]) -> dict[str, Verdict]:
    """What became of the chosen mutants, as far as they were looked at, by their keys."""
    statuses: dict[str, int | None] = {}
    chosen = list(chosen)
    for file in {each.file for each in chosen}:
        written = folder / "mutants" / f"{file}.meta"
        if written.exists():
            statuses |= json.loads(written.read_text(encoding="utf-8"))["exit_code_by_key"]
    found = {each.key: verdict(statuses.get(each.key)) for each in chosen}
    return {key: each for key, each in found.items() if each is not None}


def _environment() -> dict[str, str]:
    # The same run again is the same run.
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts"), "PYTHONHASHSEED": "0"}
    # Its tests notice by their asserts; mypy is beside Python.
    environment.pop("PYTHONOPTIMIZE", None)
    environment["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), environment.get("PATH", os.defpath)))
    return environment
