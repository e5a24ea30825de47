"""Options in QEMU's spelling: a table of them, and the first look at a command line.

QEMU looks through the whole line for options that it does not know before it gives meaning to any of
them, so that an unknown option is reported before a bad value that stands in front of it.
"""

from __future__ import annotations

from typing import NamedTuple

from qmpd.option_language.errors import OptionError


class Option(NamedTuple):
    """One option.

    `name` is without dashes.  `argument` is what the help calls its argument, or None where it takes
    none.  `meaning` is its text in the help, None to leave it out; `section` the heading it stands under.
    """

    name: str
    argument: str | None
    section: str
    meaning: str | None


class Given(NamedTuple):
    """An option as it was typed: `spelled` with its dashes, and its argument."""

    option: Option
    spelled: str
    value: str

    @property
    def location(self) -> str:
        """How QEMU names the place of an error."""
        return self.spelled if self.option.argument is None else f"{self.spelled} {self.value}"


def scan(arguments: list[str], options: dict[str, Option]) -> tuple[list[Given], list[str]]:
    """Split a command line into options of the table, one or two dashes, and what has no dash.

    :raise OptionError: an option is not in the table, or lacks its argument.
    """
    found = scan_all(arguments, options)
    return [each for each in found if isinstance(each, Given)], [each for each in found if isinstance(each, str)]


def scan_all(arguments: list[str], options: dict[str, Option]) -> list[Given | str]:
    """The same in the line's order.

    :raise OptionError: an option is not in the table, or lacks its argument.
    """
    found: list[Given | str] = []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            found.append(argument)
            continue
        option = options.get(argument[2:] if argument.startswith("--") else argument[1:])
        if option is None:
            raise OptionError("invalid option", argument)
        value = ""
        if option.argument is not None:
            following = next(rest, None)
            if following is None:
                raise OptionError("requires an argument", argument)
            value = following
        found.append(Given(option, argument, value))
    return found
