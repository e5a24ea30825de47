"""`qmpd agent`: a guest agent by itself."""

from __future__ import annotations

import sys

from qmpd.cli.grammar import STATUS, Parser, UsageError


def parser() -> Parser:
    """The declaration of the subcommand."""
    from qmpd.qapi import DEFAULT_RELEASE

    result = Parser(
        "agent",
        "Answer as the guest agent of a small guest, on a socket, to one client after another.\n"
        "A machine has its own: qmpd serve -guest agent=on.",
        examples="  qmpd agent --socket /tmp/qga.sock --release 10.0\n"
        "  qmpd agent --socket /tmp/qga.sock --root / --block-rpcs guest-shutdown,guest-exec\n",
    )
    result.add_argument("--socket", metavar="PATH", help="where to listen")
    result.add_argument(
        "--release", default=DEFAULT_RELEASE, metavar="RELEASE", help=f"{DEFAULT_RELEASE} unless said otherwise"
    )
    result.add_argument(
        "--root", metavar="FOLDER",
        help="what the guest's files begin with; what it writes stays in memory",
    )  # fmt: skip
    result.add_argument(
        "--block-rpcs", dest="blocked", metavar="COMMAND,...", default="", help="commands that are refused"
    )
    return result


def main(arguments: list[str]) -> int:
    """Run `qmpd agent`; the result is the exit status."""
    from qmpd.qapi import BadRelease, UnknownRelease

    try:
        given = parser().read(arguments)
        if given is None:
            return 0
        if given.socket is None:
            raise UsageError("--socket says where to listen (qmpd agent --help tells more)")
        _serve(given.socket, given.release, given.root, given.blocked)
    except (UsageError, UnknownRelease, BadRelease) as error:
        sys.stderr.write(f"qmpd agent: {error}\n")
        return STATUS
    return 0


def _serve(path: str, release_name: str, root: str | None, blocked: str) -> None:
    import trio

    from qmpd.qapi import load_release
    from qmpd.server.agent import serve
    from qmpd.server.listener import Listener, ListenError

    release = load_release(release_name)
    names = frozenset(filter(None, blocked.split(",")))
    unknown = sorted(names - set(release.agent.commands))
    if unknown:
        raise UsageError(f"--block-rpcs: the agent of {release.name} has no command '{unknown[0]}'")
    try:
        listener = Listener(path, replaces=True)
    except ListenError as error:
        raise UsageError(str(error)) from None
    try:
        trio.run(serve, release, listener, root, names)
    finally:
        listener.remove()
