"""`qmpd control`: one command to a machine's control socket, from a shell."""

from __future__ import annotations

import json
import socket
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "qmpd control"

_HELP = """\
usage: qmpd control PATH COMMAND [KEY=VALUE]...
       qmpd control PATH
       qmpd control PATH --follow

Send one command to the control socket of 'qmpd serve -control unix:PATH' and
print what it returns as JSON. A value is JSON where it reads as such, otherwise
a string. Without a command, list the commands; with --follow, print the
transcript from its start, an entry a line, until the machine ends.

examples:
  qmpd control /tmp/control.sock guest-set boot-time=2s on-powerdown=none
  qmpd control /tmp/control.sock clock-advance time=90
  qmpd control /tmp/control.sock fault-drop-connection when=within-reply count=1
"""


class ControlFailure(Exception):  # noqa: N818 - a failure of the conversation, not of this program
    """The control socket cannot be talked to; the text says why."""


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

    def strings(self, command: str) -> frozenset[str]:
        """The arguments of a command that are strings, whatever they look like."""
        entries = {each["name"]: each for each in self.execute("query-qmp-schema", {})["return"]}
        arguments = entries.get(entries.get(command, {}).get("arg-type"), {})
        return frozenset(
            each["name"]
            for each in arguments.get("members", ())
            if each["type"] == "str" or entries[each["type"]]["meta-type"] == "enum"
        )

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
    if not arguments or arguments[0] in ("-h", "-help", "--help"):
        (sys.stdout if arguments else sys.stderr).write(_HELP)
        return 0 if arguments else 1
    path, *rest = arguments
    try:
        return _run(path, rest)
    except ControlFailure as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return 1


def _run(path: str, rest: list[str]) -> int:
    values = {}
    if rest and not rest[0].startswith("-"):
        for word in rest[1:]:
            key, equals, value = word.partition("=")
            if not equals or not key:
                raise ControlFailure(f"'{word}' is not KEY=VALUE")
            values[key] = value
    elif rest not in ([], ["--follow"], ["-follow"]):
        raise ControlFailure(f"{rest[0]}: no such option (--help tells more)")
    conversation = Conversation(path)
    try:
        if not rest:
            return _list(conversation)
        if rest[0].startswith("-"):
            for entry in conversation.transcript():
                print(json.dumps(entry), flush=True)
            return 0
        strings = conversation.strings(rest[0]) if values else frozenset()
        reply = conversation.execute(
            rest[0], {key: value if key in strings else typed(value) for key, value in values.items()}
        )
    finally:
        conversation.close()
    if "error" in reply:
        raise ControlFailure(reply["error"]["desc"])
    print(json.dumps(reply["return"], indent=2))
    return 0


def _list(conversation: Conversation) -> int:
    width = max(len(each["name"]) for each in conversation.commands)
    for each in conversation.commands:
        print(f"{each['name']:{width}}  {each['summary']}")
    return 0


def typed(text: str) -> Any:
    """A value as it was typed: JSON where it is, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
