"""`qmpd commands`: which commands of a release are modelled, captured or refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from qmpd.cli.grammar import STATUS, Parser, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from qmpd.qapi import Release

KINDS = {
    "modelled": "qmpd computes the answer",
    "captured": "the answer is a real machine's",
    "refused": "arguments are checked, then an error says that qmpd does not model the command",
}


def parser() -> Parser:
    """The declaration of the subcommand."""
    from qmpd.qapi import DEFAULT_RELEASE

    kinds = "\n".join(f"  {kind:9} {meaning}" for kind, meaning in KINDS.items())
    result = Parser(
        "commands",
        "List the commands of a release and how each one is answered, or count them for\n"
        f"every release as a table in Markdown.\n\n{kinds}",
    )
    result.add_argument(
        "--release", default=DEFAULT_RELEASE, metavar="RELEASE", help=f"{DEFAULT_RELEASE} unless said otherwise"
    )
    result.add_argument("--table", action="store_true", help="print the table of all releases")
    return result


def main(arguments: list[str]) -> int:
    """Run `qmpd commands`; the result is the exit status."""
    from qmpd.qapi import BadRelease, UnknownRelease

    try:
        given = parser().read(arguments)
        if given is None:
            return 0
        if given.table:
            sys.stdout.write(table())
        else:
            run(given.release, sys.stdout)
    except (UsageError, UnknownRelease, BadRelease) as error:
        sys.stderr.write(f"qmpd commands: {error}\n")
        return STATUS
    return 0


def classified(release: Release) -> dict[str, str]:
    """Each command of the release, in its order, and its kind (a key of `KINDS`)."""
    from qmpd.monitor.commands import modelled

    names = modelled(release)
    return {name: release.classify(name, names) for name in release.commands}


def run(release_name: str, out: TextIO) -> None:
    """List a release's commands, by name, one a line.

    :raise UnknownRelease: there is no such release.
    :raise BadRelease: it cannot be read.
    """
    from qmpd.qapi import load_release

    release = load_release(release_name)
    for name, kind in sorted(classified(release).items()):
        features = ", ".join(release.commands[name].features)
        out.write(f"{kind:10}{name}  ({features})\n" if features else f"{kind:10}{name}\n")


def table(names: Iterable[str] | None = None) -> str:
    """How many commands of each kind the releases have, as a table in Markdown."""
    from qmpd.qapi import load_release, release_names

    lines = [f"| release | commands | {' | '.join(KINDS)} |", "|---" * (2 + len(KINDS)) + "|"]
    for name in release_names() if names is None else names:
        kinds = list(classified(load_release(name)).values())
        counts = [str(kinds.count(kind)) for kind in KINDS]
        lines.append(f"| {name} | {len(kinds)} | {' | '.join(counts)} |")
    return "\n".join(lines) + "\n"
