"""`qmpd control`: one command to a machine's control socket, from a shell."""

from __future__ import annotations

import json
import socket
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.cli.grammar import HELP, STATUS, Parser, UsageError
from qmpd.common.suggestions import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "qmpd control"


def parser() -> Parser:
    """The declaration of the subcommand."""
    result = Parser(
        "control",
        "Send one command to the control socket of 'qmpd serve --control PATH' and print\n"
        "what it returns as JSON. A value is JSON where it reads as such, otherwise a\n"
        "string. Without a command, list the commands; PATH COMMAND --help tells what a\n"
        "command takes.",
        usage="qmpd control PATH [COMMAND [KEY=VALUE]...]\n       qmpd control PATH --follow",
        examples="  qmpd control /tmp/control.sock guest-set boot-time=2s on-powerdown=none\n"
        "  qmpd control /tmp/control.sock clock-advance time=90\n"
        "  qmpd control /tmp/control.sock fault-drop-connection when=within-reply count=1\n",
    )
    result.add_argument("path", metavar="PATH", nargs="?", help="where the control socket is")
    result.add_argument("command", metavar="COMMAND", nargs="?", help="what to do")
    result.add_argument("values", metavar="KEY=VALUE", nargs="*", help="the command's arguments")
    result.add_argument(
        "--follow", action="store_true",
        help="print the transcript from its start, an entry a line, until the machine ends",
    )  # fmt: skip
    return result


class ControlFailure(Exception):  # noqa: N818 - a failure of the conversation, not of this program
    """The control socket cannot be talked to; the text says why."""


class Argument(NamedTuple):
    """What a command takes under one name; `values` are those of an enumeration, `kind` is for people."""

    kind: str
    needed: bool
    is_string: bool
    values: list[str]


def _argument(member: dict[str, Any], declared: dict[str, Any]) -> Argument:
    values = list(declared.get("values", ()))
    kind = "|".join(values) or {"alternate": "a number or a text", "array": "a list"}.get(
        declared["meta-type"], declared.get("json-type", declared["name"])
    )
    return Argument(kind, "default" not in member, declared["name"] == "str" or bool(values), values)


class Conversation:
    """A connection to a control socket, negotiated; `commands` are those that it has, each with its summary.

    :raise ControlFailure: nobody listens there, or who does speaks something else.
    """

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.connect(path)
        except OSError as error:
            self.socket.close()
            raise ControlFailure(f"{path}: {error.strerror}") from None
        self._lines = self.socket.makefile("rb")
        try:
            greeting = self.receive()
            if "QMP" not in greeting:
                raise ControlFailure(f"{path} does not greet as a control socket does")
            self.execute("qmp_capabilities", {})
            self.commands: list[dict[str, str]] = self.execute("query-commands", {})["return"]
            if not all("summary" in each for each in self.commands):
                raise ControlFailure(f"{path} is a QMP socket, not a control socket")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the conversation."""
        self._lines.close()
        self.socket.close()

    def receive(self) -> dict[str, Any]:
        """The next message.

        :raise ControlFailure: there is none, or it is no JSON object.
        """
        try:
            line = self._lines.readline()
            if not line:
                raise ControlFailure("the machine has ended")
            message = json.loads(line)
        except (OSError, ValueError) as error:
            raise ControlFailure(str(error)) from None
        if not isinstance(message, dict):
            raise ControlFailure(f"'{message}' is no message")
        return message

    def send(self, command: str, arguments: dict[str, Any]) -> None:
        """Ask for something.

        :raise ControlFailure: the machine has ended.
        """
        try:
            self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        except OSError:
            raise ControlFailure("the machine has ended") from None

    def execute(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The reply to a command; events before it are dropped."""
        self.send(command, arguments)
        while True:
            message = self.receive()
            if "return" in message or "error" in message:
                return message

    def arguments(self, command: str) -> dict[str, Argument]:
        """What a command takes, by name; nothing where there is no such command."""
        entries = {each["name"]: each for each in self.execute("query-qmp-schema", {})["return"]}
        members = entries.get(entries.get(command, {}).get("arg-type"), {}).get("members", ())
        return {each["name"]: _argument(each, entries[each["type"]]) for each in members}

    def check(self, command: str) -> None:
        """Refuse a command that there is not.

        :raise ControlFailure: there is none of that name.
        """
        names = [each["name"] for each in self.commands]
        if command not in names:
            raise ControlFailure(f"The command {command} has not been found{suggestion(command, names)}")

    def transcript(self) -> Iterator[dict[str, Any]]:
        """The transcript's entries, until the machine ends."""
        self.send("transcript-follow", {"from-start": True})
        while True:
            try:
                message = self.receive()
            except ControlFailure:
                return
            if message.get("event") == "TRANSCRIPT":
                yield message["data"]


def main(arguments: list[str]) -> int:
    """Run `qmpd control`; the result is the exit status: 1 where the command or the connection failed."""
    declared = parser()
    words = [word for word in arguments if word not in HELP]
    try:
        # Behind a path, help is about the commands that are there.
        behind = len(words) < len(arguments) and words and not words[0].startswith("-")
        given = declared.read(words if behind else arguments)
        if given is None:
            return 0
        if given.path is None:
            sys.stderr.write(declared.format_help())
            return STATUS
        if given.follow and given.command is not None:
            raise UsageError("--follow takes no command")
        return _run(given.path, given.command, given.values, follow=given.follow, explain=bool(behind))
    except (UsageError, ControlFailure) as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return STATUS


def _run(path: str, command: str | None, words: list[str], *, follow: bool, explain: bool) -> int:
    values = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"'{word}' is not KEY=VALUE")
        values[key] = value
    conversation = Conversation(path.removeprefix("unix:"))
    try:
        if follow:
            for entry in conversation.transcript():
                print(json.dumps(entry), flush=True)
            return 0
        if command is None:
            return _list(conversation)
        conversation.check(command)
        if explain:
            return _explain(conversation, command)
        takes = conversation.arguments(command) if values else {}
        for key in values:
            if key not in takes:
                raise UsageError(f"{command} takes no '{key}'{suggestion(key, takes)}")
        reply = conversation.execute(
            command, {key: value if takes[key].is_string else typed(value) for key, value in values.items()}
        )
    finally:
        conversation.close()
    if "error" in reply:
        raise ControlFailure(reply["error"]["desc"] + _meant(takes, values, reply["error"]["desc"]))
    print(json.dumps(reply["return"], indent=2))
    return 0


def _meant(takes: dict[str, Argument], values: dict[str, str], complaint: str) -> str:
    """The value that was meant, where a wrong one of an enumeration is complained about."""
    for key, value in values.items():
        if takes[key].values and f"'{key}'" in complaint and value not in takes[key].values:
            return suggestion(value, takes[key].values)
    return ""


def _list(conversation: Conversation) -> int:
    width = max(len(each["name"]) for each in conversation.commands)
    for each in conversation.commands:
        print(f"{each['name']:{width}}  {each['summary']}")
    return 0


def _explain(conversation: Conversation, command: str) -> int:
    print(next(each["summary"] for each in conversation.commands if each["name"] == command))
    takes = conversation.arguments(command)
    print("\narguments:" if takes else "\nIt takes no arguments.")
    width = max((len(name) for name in takes), default=0)
    for name, argument in takes.items():
        print(f"  {name:{width}}  {argument.kind}{'' if argument.needed else ' (optional)'}")
    return 0


def typed(text: str) -> Any:
    """A value as it was typed: JSON where it is, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
