"""The decoder gives for every recorded step as many messages as QEMU gave answers, the same errors, the same ids."""

from __future__ import annotations

import pytest

from qmpd.wire import Decoder, ParseError, encode
from tests.golden import RELEASES, load

DIALECT = {"5.2": "classic", "7.2": "classic", "10.0": "classic", "11.1": "positions"}
FLOAT_FORMAT = {"5.2": "f", "7.2": "g17", "10.0": "g17", "11.1": "g17"}


def _error(message: ParseError) -> bytes:
    return encode({"error": {"class": "GenericError", "desc": message.message}})


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("slice_size", [1 << 20, 1])
def test_protocol(release: str, slice_size: int) -> None:
    errors = ids = 0
    for row in load(release, "protocol"):
        decoder = Decoder(DIALECT[release])
        for step in row["steps"]:
            sent = step["send"].encode("latin-1")
            messages: list[object] = []
            for start in range(0, len(sent), slice_size):
                messages += decoder.feed(sent[start : start + slice_size])
            answers = [line.encode("latin-1") for line in step["recv"]]
            assert len(messages) == len(answers), step
            for message, answer in zip(messages, answers, strict=True):
                if isinstance(message, ParseError):
                    errors += 1
                    assert _error(message) == answer
                elif isinstance(message, dict) and "id" in message:
                    ids += 1
                    echo = b'"id": ' + encode(message["id"], FLOAT_FORMAT[release])
                    assert answer.startswith(b"{" + echo) or answer.endswith(echo + b"}")
    assert errors > (100 if release == "11.1" else 2000)
    assert ids > 200
