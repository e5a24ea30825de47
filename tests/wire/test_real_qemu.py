"""Random bytes, to real QEMU and to the decoder: the same answers, in the same bytes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from qmpd.wire import Decoder, ParseError, encode
from tests.real_qemu import programs
from tests.wire.strategies import input_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_FOUND = b'"class": "CommandNotFound", "desc": "The command no-such-command has not been found"}}'


class Session:
    """One QMP session on a real QEMU, and a decoder that is fed the same bytes."""

    def __init__(self, release: str) -> None:
        self.float_format = "f" if release == "5.2" else "g17"
        self.decoder = Decoder("positions" if release == "11.1" else "classic")
        self.process = subprocess.Popen(
            [*programs()[release], "-machine", "none", "-display", "none", "-nodefaults", "-qmp", "stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.line().startswith(b'{"QMP"')
        assert self.ask(b'{"execute":"qmp_capabilities"}')[0][0] == b'{"return": {}}'

    def line(self) -> bytes:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.endswith(b"\r\n"), "QEMU has ended"
        return line[:-2]

    def ask(self, data: bytes) -> tuple[list[bytes], list[object]]:
        """QEMU's answers to `data` and to what brings its parser back to the beginning; and our messages."""
        data += b'\xff\n{"execute":"no-such-command","id":"the end"}\n'
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()
        answers = [self.line()]
        while not answers[-1].startswith(b'{"id": "the end"'):
            answers.append(self.line())
        return answers, self.decoder.feed(data)


def agrees(message: object, answer: bytes, float_format: str) -> bool:
    """Whether a session that got `message` gives the answer; all but parse errors only as far as `id` and class go."""
    if isinstance(message, ParseError):
        return answer == encode({"error": {"class": "GenericError", "desc": message.message}})
    if not isinstance(message, dict):
        return answer == b'{"error": {"class": "GenericError", "desc": "QMP input must be a JSON object"}}'
    if "id" not in message:
        return answer.startswith((b'{"error": {"class": ', b'{"return": {'))
    start = b'{"id": ' + encode(message["id"], float_format) + b', "error": {'
    if message.keys() == {"execute", "id"} and message["execute"] == "no-such-command":
        return answer == start + NOT_FOUND
    return answer.startswith(start)


@pytest.fixture(scope="module", params=["5.2", "7.2", "10.0", "11.1"])
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    if request.param not in programs():
        pytest.skip(f"QEMU {request.param} is not installed")
    session = Session(request.param)
    yield session
    session.process.kill()
    session.process.communicate()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=input_bytes)
def test_the_same_answers(session: Session, data: bytes) -> None:
    answers, messages = session.ask(data)
    assert len(messages) == len(answers)
    for message, answer in zip(messages, answers, strict=True):
        assert agrees(message, answer, session.float_format), (message, answer)
