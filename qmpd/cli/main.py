"""The `qmpd` program: finds the subcommand and runs it."""

from __future__ import annotations

import gc
import sys

from qmpd.common.interruption import end_at_once
from qmpd.common.output import complete_streams, discard, finish

# Each subcommand is the module of its name in this package, imported when it is asked for.
SUBCOMMANDS = {
    "serve": "serve one virtual machine on a QMP socket",
    "fleet": "serve thousands of virtual machines in one process",
    "control": "make the guest act, time pass and connections break",
    "agent": "answer as a guest's agent, by itself",
    "commands": "list the commands of a release and how each one is answered",
    "timeline": "draw a transcript: who sent what, when, and in which run state",
    "graph": "draw the run states, or the stages of a live update",
    "capture": "write down what a real QEMU, or a running VM, is",
    "completion": "print the script by which a shell completes the arguments",
}

_USAGE = """\
usage: qmpd SUBCOMMAND [OPTION]...

A QMP server that stands in for QEMU: it answers what QEMU would have answered,
without a guest's memory to fill or a CPU to emulate.

{}
qmpd SUBCOMMAND --help tells more. qmpd --version tells its version.
"""


def usage() -> str:
    """The text of `qmpd --help`."""
    return _USAGE.format("".join(f"  {name:10}  {summary}\n" for name, summary in SUBCOMMANDS.items()))


def main(arguments: list[str] | None = None) -> int:
    """Run `qmpd` with these arguments, the process's own by default; the result is the exit status."""
    if arguments is None:
        arguments = sys.argv[1:]
        if arguments[:1] != ["take-over"]:
            end_at_once()
        if arguments[:1] == ["serve"]:
            # What is imported stays, so to look for garbage in it only makes the start longer (`qmpd.server.serve`).
            gc.disable()
    complete_streams()
    return finish(_run(arguments), "qmpd")


def _run(arguments: list[str]) -> int:
    name = arguments[0] if arguments else ""
    if name in SUBCOMMANDS:
        if name == "serve":
            # By far the most frequent, and the one whose start is waited for.
            from qmpd.cli import serve

            return serve.main(arguments[1:])
        import importlib

        try:
            return int(importlib.import_module(f"qmpd.cli.{name}").main(arguments[1:]))
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:
            # Whoever read this has seen enough; what is left must not fail again at exit.
            discard(1)
            return 0
    if name == "take-over":
        # Not for people: what a live update calls (qmpd.server.hand_over.child).
        from qmpd.server.hand_over import child as take_over

        return take_over.main(arguments[1:])
    if name in ("-h", "-help", "--help", "help"):
        print(usage(), end="")
        return 0
    if name in ("-version", "--version", "-V"):
        from importlib.metadata import version

        print(f"qmpd {version('qmpd')}")
        return 0
    if not name:
        sys.stderr.write(usage())
    else:
        from qmpd.common.suggestions import suggestion

        kind = "option" if name.startswith("-") else "subcommand"
        known = ("--help", "--version") if name.startswith("-") else SUBCOMMANDS
        hint = suggestion(name, known) if name else ""
        meant = hint if "did you mean" in hint else " (qmpd --help lists them)"
        sys.stderr.write(f"qmpd: {name}: no such {kind}{meant}\n")
    return 1
