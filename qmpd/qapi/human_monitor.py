"""The human monitor's commands in one release, read off what its `help` and `help info` print."""

from __future__ import annotations

import re

_ENTRY = re.compile(r"^(?:info )?([a-z?]\S*)", re.MULTILINE)


class HumanMonitorTable:
    """The names of a release's human monitor commands, and their help.

    `commands` and `information` (the words after `info`) give each name its title, in which the names of
    one command stand side by side: `cont|c`.

    `migrate_parameters` are the lines of `info migrate_parameters`, with `{}` in place of the values, and
    `migrate_globals` those that `info migrate` has of every machine; empty where they are not known.
    """

    def __init__(
        self, help_text: str, information_text: str, log_text: str = "", parameters: str = "", shared: str = ""
    ) -> None:
        """Read the texts, their lines ended by line feeds; `log_text` is what `help log` prints, if it is known."""
        self.migrate_parameters = parameters
        self.migrate_globals = shared
        self._log = log_text
        self._help = help_text
        self._information = information_text
        self.commands = _titles(help_text)
        self.information = _titles(information_text)

    def takes_nothing(self, title: str, information: bool) -> bool:
        """Whether the command of this title is called without anything behind it."""
        text, prefix = (self._information, "info ") if information else (self._help, "")
        return re.search(rf"^{re.escape(prefix + title)}  -- ", text, re.MULTILINE) is not None

    def help(self, words: list[str]) -> str:
        """What `help` prints when these words follow it."""
        if not words:
            return self._help
        if words[0] == "info":
            if len(words) == 1:
                return self._information
            return _entry(self._information, self.information, words[1], "info ")
        if words == ["log"] and self._log:
            return self._log
        return _entry(self._help, self.commands, words[0], "")


def _titles(text: str) -> dict[str, str]:
    return {name: title for title in _ENTRY.findall(text) for name in title.split("|")}


def _entry(text: str, titles: dict[str, str], name: str, prefix: str) -> str:
    title = titles.get(name)
    if title is None:
        return f"unknown command: '{prefix}{name}'\n"
    start = re.search(rf"^{re.escape(prefix + title)} ", text, re.MULTILINE)
    assert start is not None
    following = _ENTRY.search(text, start.end())
    return text[start.start() : following.start() if following else len(text)]
