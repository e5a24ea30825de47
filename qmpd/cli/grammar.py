"""The grammar of all subcommands that are not QEMU's: `--name VALUE`, `--name=VALUE`, and one dash for two.

Each subcommand's module has `parser()`, its declaration, from which its help, the completion of shells and the man page
are made, and `main`, which reads by it.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from qmpd.common.integers import from_digits, is_digits
from qmpd.common.suggestions import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HELP = frozenset(("-h", "-help", "--help"))
STATUS = 1
"""The exit status of a command line that makes no sense."""


class UsageError(Exception):
    """A command line that makes no sense; the text says what about it."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=80)


class _Once(argparse.Action):
    """An option that can be given once."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if option is not None:
            given: set[str] = vars(namespace).setdefault("given", set())
            if self.dest in given:
                raise argparse.ArgumentError(self, "given twice")
            given.add(self.dest)
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """The declaration of one subcommand."""

    def __init__(self, name: str, description: str, *, usage: str | None = None, examples: str = "") -> None:
        """`usage` is the line after `usage: `, where argparse's own would not do; `examples` end the help."""
        super().__init__(
            prog=f"qmpd {name}".strip(),
            usage=usage,
            description=description,
            epilog=f"examples:\n{examples}" if examples else None,
            formatter_class=_Formatter,
            add_help=False,
            allow_abbrev=False,
        )
        # How the options were typed that have been read.
        self._typed: dict[str, str] = {}
        self.register("action", None, _Once)
        self.add_argument("-h", "--help", action="store_true", help="print this and exit")

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        :raise UsageError: always.
        """
        kind, _, told = message.partition(": ")
        if not kind.startswith("argument "):
            raise UsageError(message)
        name = self._typed.get(kind.removeprefix("argument ").rpartition("/")[2])
        if told == "expected one argument":
            told = "needs a value"
        raise UsageError(told if name is None else f"{name}: {told}")

    @property
    def names(self) -> list[str]:
        """The options, with their dashes."""
        return [name for name in self._option_string_actions if name.startswith("--") or len(name) == 2]

    def read(self, arguments: Sequence[str]) -> argparse.Namespace | None:
        """What the arguments say; None where they ask for help, which has been printed then.

        :raise UsageError: they make no sense.
        """
        if HELP.intersection(arguments):
            print(self.format_help(), end="")
            return None
        words = [self._two_dashes(word) for word in arguments]
        try:
            namespace, rest = self.parse_known_args(words)
        except UsageError:
            # What follows an option that there is not may make no sense because of that.
            rest = [word for word in words if self._is_unknown(word)]
            if not rest:
                raise
        for word in rest:
            raise UsageError(self.unknown(word))
        return namespace

    def _is_unknown(self, word: str) -> bool:
        return word.startswith("--") and word.partition("=")[0] not in self._option_string_actions

    def read_known(self, arguments: Sequence[str]) -> tuple[argparse.Namespace | None, list[str]]:
        """The same, with what belongs to somebody else."""
        if HELP.intersection(arguments):
            print(self.format_help(), end="")
            return None, []
        return self.parse_known_args([self._two_dashes(word) for word in arguments])

    def unknown(self, word: str) -> str:
        """The complaint about a word that does not belong."""
        if not word.startswith("-") or word == "-":
            return f"{word}: unexpected argument"
        name = word.partition("=")[0]
        known = [each.lstrip("-") for each in self.names if each.startswith("--")]
        hint = suggestion(name.lstrip("-"), known).replace(" '", " '--")
        return f"{self._typed.get(name, name)}: no such option{hint}"

    def _two_dashes(self, word: str) -> str:
        """`-name` as `--name`: both are QEMU's spelling."""
        result = self._with_two_dashes(word)
        self._typed[result.partition("=")[0]] = word.partition("=")[0]
        return result

    def _with_two_dashes(self, word: str) -> str:
        if len(word) < 3 or word[0] != "-" or word[1] == "-" or is_digits(word[1]):
            return word
        short = self._option_string_actions.get(word[:2])
        attached = short is not None and short.nargs != 0
        return word if attached and f"-{word.partition('=')[0]}" not in self._option_string_actions else f"-{word}"


def choice(what: str, known: Iterable[str]) -> Any:
    """The type of an argument that is one of these: another is refused with the one that was meant."""
    names = list(known)

    def read(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text}: no such {what}{suggestion(text, names)}")
        return text

    read.__name__ = what
    return read


def whole_number(text: str) -> int:
    """The type of an argument that is a number."""
    if not is_digits(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no number")
    return from_digits(text)
