"""All subcommands in one declaration: what the completion of shells and the man page are made from."""

from __future__ import annotations

import argparse
from importlib import import_module

from qmpd.cli.main import SUBCOMMANDS

DESCRIPTION = (
    "A QMP server that stands in for QEMU: it answers what QEMU would have answered, without a guest's memory to fill "
    "or a CPU to emulate."
)


def whole() -> argparse.ArgumentParser:
    """The program with all its subcommands and their options."""
    result = argparse.ArgumentParser(prog="qmpd", description=DESCRIPTION, add_help=False)
    result.add_argument("-h", "--help", action="store_true", help="list the subcommands")
    result.add_argument("--version", action="store_true", help="tell the version")
    # Each subcommand's own declaration, which adds its parts by itself.
    subcommands = result.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", parser_class=argparse.ArgumentParser)
    for name, summary in SUBCOMMANDS.items():
        declared = import_module(f"qmpd.cli.{name}").parser()
        copied = subcommands.add_parser(
            name, parents=[declared], help=summary, description=declared.description, usage=declared.usage,
            epilog=declared.epilog, formatter_class=declared.formatter_class, add_help=False,
        )  # fmt: skip
        copied.prog = f"qmpd {name}"
    return result
