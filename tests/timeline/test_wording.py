from __future__ import annotations

from typing import Any

import pytest

from qmpd.timeline.transcript import TranscriptError, entry, read
from qmpd.timeline.wording import duration, line, moment, spell_message
from tests.timeline.scenario import full


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_500, "1.5 µs"),
        (34_960_000, "35 ms"),
        (200_000_000, "200 ms"),
        (1_234_000_000, "1.23 s"),
        (90_000_000_000, "90 s"),
        (600_000_000_000, "10 min"),
        (86_400_000_000_000, "24 h"),
    ],
)
def test_durations_have_the_unit_that_fits(nanoseconds: int, text: str) -> None:
    assert duration(nanoseconds) == text


def test_moments_are_seconds_to_the_microsecond() -> None:
    assert moment(92_670_791_999) == "92.670 791"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"execute": "stop"}, "stop"),
        ({"execute": "device_del", "arguments": {"id": "net 0"}, "id": 3}, 'device_del id="net 0"'),
        ({"exec-oob": "x", "arguments": {"a": [1], "b": True}}, "(out-of-band) x a=[1] b=true"),
        ({"return": {}}, "return {}"),
        ({"return": {"status": "running", "running": True}}, "return status=running running=true"),
        ({"return": "text"}, "return text"),
        ({"error": {"class": "DeviceNotFound", "desc": "no 'x'"}}, "DeviceNotFound: no 'x'"),
        ({"event": "RESET", "data": {"guest": False}, "timestamp": {}}, "RESET guest=false"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_messages_in_a_line(message: Any, text: str) -> None:
    assert spell_message(message) == text


def test_lines_of_a_readable_transcript() -> None:
    entries = full().entries
    lines = [line(each, entries[0].time) for each in entries]
    assert lines[3] == "    0.000 106  client 1     connected to compat_monitor0"
    assert lines[5] == "    0.000 216  client 1  -> qmp_capabilities"
    assert lines[6] == "    0.000 256  client 1  <- return {}"
    assert lines[-1] == "   92.600 978               ended, exit status 0"


def test_what_is_no_transcript_is_refused_with_its_line() -> None:
    good = '{"number": 1, "time": 0, "kind": "started"}\n'
    with pytest.raises(TranscriptError, match=r"line 3: it is no JSON"):
        read([good, "\n", "foo\n"])
    with pytest.raises(TranscriptError, match=r"line 2: an entry has a number, a time and a kind"):
        read([good, '{"number": 1}\n'])
    with pytest.raises(TranscriptError, match=r"line 1: it is no JSON object"):
        read(["[]\n"])


def test_a_last_line_that_was_cut_off_is_left_out() -> None:
    good = '{"number": 1, "time": 0, "kind": "started"}\n'
    assert len(read([good, '{"number": 2, "ti'])) == 1


def test_members_of_another_type_are_refused() -> None:
    with pytest.raises(TranscriptError):
        entry({"number": "1", "time": 0, "kind": "started"})
