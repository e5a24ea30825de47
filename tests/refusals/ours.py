"""Asking qmpd."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from qmpd.cli import serve
from qmpd.emulator import program as emulator
from qmpd.option_language.errors import OptionError
from qmpd.server import log
from tests.cli.test_emulator_lines import OURS, THEIRS, without_serving
from tests.emulator.support import connect
from tests.refusals.asking import ALWAYS, Answer, ask_all_hot, cold_options, tidy
from tests.refusals.table import HOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.refusals.asking import Machine
    from tests.refusals.table import Asked
    from tests.refusals.zygote import Zygote


def ask_line(release: str, asked: Asked) -> Answer:
    """What `qmpd-system-x86_64` makes of a command line; `{"defect"}` where it fails at it."""
    said = io.StringIO()
    with ExitStack() as stack:
        options, path = cold_options(asked, stack)
        stack.enter_context(mock.patch.dict("os.environ", {"QMPD_RELEASE": release, "QMPD_OPTIONS": ""}))
        stack.enter_context(mock.patch("qmpd.server.serve.serve", without_serving))
        stack.enter_context(mock.patch.object(sys, "argv", [f"/usr/bin/{OURS}"]))
        for name, value in (("name", OURS), ("timestamp", False)):
            stack.enter_context(mock.patch.object(log, name, value))
        stack.enter_context(redirect_stderr(said))
        stack.enter_context(redirect_stdout(io.StringIO()))
        try:
            status = emulator.main([*ALWAYS, *options])
        except Exception as error:
            return {"defect": repr(error)}
        return tidy(status, said.getvalue().replace(OURS, THEIRS).splitlines(), path)


def ask_serve(release: str, asked: Asked) -> str:
    """With what `qmpd serve` refuses these options; nothing where it takes them."""
    try:
        serve.parse(["--release", release, *ALWAYS, *asked.question.after, *asked.form])
    except OptionError as error:
        return str(error)
    return ""


def ask_hot(zygote: Zygote, release: str, asked: list[Asked]) -> dict[str, Answer]:
    """What machines of `qmpd-system-x86_64` answer, by key."""

    def start(options: list[str]) -> Machine:
        return zygote.start([OURS, *options], {"QMPD_RELEASE": release, "QMPD_OPTIONS": ""})

    return ask_all_hot(start, [each for each in asked if each.door in HOT])


class Fleet:
    """A fleet without machines, and a client of its control socket; a context manager that ends it."""

    def __init__(self, folder: Path) -> None:
        argv = [sys.executable, "-m", "qmpd", "fleet", "--count", "0", "--dir", str(folder)]
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._socket = connect(folder / "fleet.sock")
        self._lines = self._socket.makefile("rb")
        self._lines.readline()
        self._execute("qmp_capabilities", {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()
        self._process.terminate()
        self._process.wait(10)

    def _execute(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        reply: dict[str, Any] = json.loads(self._lines.readline())
        return reply

    def ask(self, release: str, asked: Asked) -> str:
        """With what a machine with these options is refused; nothing where it is created, and ended again."""
        options = [*ALWAYS, *asked.question.after, *asked.form]
        reply = self._execute("create", {"name": "asked", "release": release, "options": options})
        if "error" in reply:
            return str(reply["error"]["desc"])
        self._execute("destroy", {"name": "asked"})
        return ""
