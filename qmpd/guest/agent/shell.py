"""As much of a shell as management software asks an agent for: `sh -c` with simple commands in a row.

Commands are separated by `;`, `&&`, `||` and line ends; words may be quoted; a command's output may go to the other
stream (`>&2`, `2>&1`) or nowhere (`>/dev/null`).  `$$` and `$NAME` are known.  For all else the shell says that it is
none, with status 2.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from qmpd.guest.agent.calls import ERR, OUT, Call, Ending

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qmpd.guest.agent.calls import Program

_SEPARATORS = (";", "&&", "||", "\n")
_UNKNOWN = re.compile(r"[`(){}*?\[\]]|\$\(|<|\|(?!\|)|(?<!&)&(?![&0-9])")
_REDIRECTION = re.compile(r"([012]?)>(&[12]|/dev/null)")
_PROCESS = "1000"
_MISSING = 127


class _End(Exception):  # noqa: N818 - it is no error
    """The shell ends."""

    def __init__(self, status: int = 0, signal: int | None = None) -> None:
        super().__init__()
        self.status = status
        self.signal = signal


def run(call: Call, programs: Mapping[str, Program]) -> Ending:
    """Run what stands behind `-c`."""
    if call.arguments[:1] != ("-c",) or len(call.arguments) < 2:
        return _not_modelled("a script without -c")
    text = call.arguments[1]
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", text)
    if _UNKNOWN.search(bare) is not None:
        return _not_modelled(f"'{text}'")
    printed: list[tuple[int, bytes]] = []
    status, seconds = 0, 0.0
    try:
        for separator, words in _commands(text):
            if (separator == "&&" and status) or (separator == "||" and not status):
                continue
            ending = _execute(words, call, programs)
            printed += ending.printed
            status, seconds = ending.status, seconds + ending.seconds
    except _End as end:
        return Ending(tuple(printed), end.status, end.signal, seconds)
    except ValueError as error:
        return _not_modelled(f"'{text}': {error}")
    return Ending(tuple(printed), status, None, seconds)


def _not_modelled(what: str) -> Ending:
    return Ending(((ERR, f"sh: qmpd does not model {what}\n".encode()),), 2)


def _commands(text: str) -> list[tuple[str, list[str]]]:
    """The commands, each with the separator before it."""
    reader = shlex.shlex(text.replace("\n", ";"), posix=True, punctuation_chars=";&|")
    reader.whitespace_split = True
    reader.commenters = ""
    found: list[tuple[str, list[str]]] = [("", [])]
    for word in _joined(list(reader)):
        if word in _SEPARATORS:
            found.append((word, []))
        else:
            found[-1][1].append(word)
    return [each for each in found if each[1]]


def _joined(words: list[str]) -> list[str]:
    """The words, with redirections to a stream whole again: the reader has cut them at the `&`."""
    result: list[str] = []
    for word in words:
        if (result and result[-1].endswith(">&")) or (word == "&" and result and result[-1].endswith(">")):
            result[-1] += word
        else:
            result.append(word)
    return result


def _execute(words: list[str], call: Call, programs: Mapping[str, Program]) -> Ending:
    to = {OUT: OUT, ERR: ERR}
    plain: list[str] = []
    for word in words:
        match = _REDIRECTION.fullmatch(word)
        if match is None:
            plain.append(_expanded(word, call))
        else:
            target = match[2]
            to[int(match[1] or OUT)] = to[int(target[1])] if target[0] == "&" else 0
    if not plain:
        return Ending()
    ending = _command(plain, call, programs)
    return ending._replace(printed=tuple((to[number], piece) for number, piece in ending.printed if to[number]))


def _expanded(word: str, call: Call) -> str:
    word = word.replace("$$", _PROCESS)
    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda match: call.environment.get(match[1] or match[2], ""), word)


def _command(words: list[str], call: Call, programs: Mapping[str, Program]) -> Ending:
    name, arguments = words[0], tuple(words[1:])
    if name == "exit":
        raise _End(int(arguments[0]) if arguments else 0)
    if name == "kill" and arguments[-1:] == (_PROCESS,):
        signal = arguments[0].removeprefix("-") if len(arguments) > 1 else "15"
        raise _End(signal={"KILL": 9, "TERM": 15}.get(signal) or int(signal))
    if name in (":", "cd", "export", "set"):
        return Ending()
    program = programs.get(name.rpartition("/")[2])
    if program is None:
        return Ending(((ERR, f"sh: 1: {name}: not found\n".encode()),), _MISSING)
    return program(Call(name, arguments, call.environment, call.input))
