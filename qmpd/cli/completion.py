"""`qmpd completion`: the script by which a shell completes the program's arguments."""

from __future__ import annotations

import sys

from qmpd.cli.grammar import STATUS, Parser, UsageError, choice

SHELLS = ("bash", "zsh")


def parser() -> Parser:
    """The declaration of the subcommand."""
    result = Parser(
        "completion",
        "Print the script by which a shell completes qmpd's arguments.",
        examples='  eval "$(qmpd completion bash)"\n  qmpd completion zsh > ~/.zfunc/_qmpd\n',
    )
    result.add_argument("shell", nargs="?", type=choice("shell", SHELLS), metavar="|".join(SHELLS), help="which shell")
    return result


def main(arguments: list[str]) -> int:
    """Run `qmpd completion`; the result is the exit status."""
    try:
        given = parser().read(arguments)
        if given is None:
            return 0
        if given.shell is None:
            raise UsageError(f"for which shell? ({' or '.join(SHELLS)})")
        print(script(given.shell), end="")
    except UsageError as error:
        sys.stderr.write(f"qmpd completion: {error}\n")
        return STATUS
    return 0


def script(shell: str) -> str:
    """The script for a shell.

    :raise UsageError: what makes it is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise UsageError("this takes the package shtab: pip install 'qmpd[completion]'") from None
    from qmpd.cli.declarations import whole

    return str(shtab.complete(whole(), shell=shell))
