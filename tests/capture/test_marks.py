"""What capture makes of answers that differ, and how it spells them; no QEMU is needed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from qmpd.capture import answers
from qmpd.capture.client import Outcome
from qmpd.capture.lines import join, line, spell, write
from qmpd.capture.questions import COMPUTED, OWN_FILE, Question, questions, reads
from qmpd.capture.transfer import transfer
from qmpd.qapi import load_release
from qmpd.qapi.captured import elements, replace_markers
from tests.golden import RELEASES


def returned(value: Any) -> Outcome:
    return Outcome(json.dumps(value).encode())


def fake(outcomes: list[Outcome | None]) -> answers.Ask:
    return lambda asked: outcomes


def sized(small: Any, large: Any) -> Any:
    reply = answers._sized(returned(small).reply, returned(large))
    assert reply is not None
    return json.loads(reply)["return"]


def test_what_depends_on_the_memory_gets_a_marker() -> None:
    assert sized([{"size": 32 << 20, "other": 32}], [{"size": 47 << 20, "other": 32}]) == [
        {"size": "«memory»", "other": 32}
    ]


def test_an_address_that_follows_the_memory_gets_a_marker() -> None:
    text = "ram 0x0000000000000000 {:#018x}, rom {:#018x} at 0x0000000000000000"
    small = text.format(32 << 20, (32 << 20) + 0x80000)
    large = text.format(47 << 20, (47 << 20) + 0x80000).replace("at 0x0000000000000000", "at 0x00007f3201e00000")
    marked = sized({"text": small}, {"text": large})
    assert marked["text"].count("«") == 2
    assert replace_markers(marked, {"memory": 1 << 30}) == {"text": text.format(1 << 30, (1 << 30) + 0x80000)}
    assert sized("0x0000000000000001", "0x0000000000000002") == "0x0000000000000001"


def test_a_list_with_an_element_for_each_cpu_gets_a_marker() -> None:
    small, large = [{"slot": "0", "n": 0, "kind": "CPU"}], [{"slot": str(n), "n": n, "kind": "CPU"} for n in range(3)]
    element = {"slot": "«index as text»", "n": "«index»", "kind": "CPU"}
    assert sized({"all": small, "count": 1}, {"all": large, "count": 3}) == {
        "all": ["«for each index below cpus»", element],
        "count": "«cpus»",
    }


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("gen code size 1000", "gen code size 900"),
        ([{"slot": "0"}], [{"slot": "a"}, {"slot": "b"}, {"slot": "c"}]),
        ({"a": 1}, {"b": 1}),
        ([1], []),
        (True, 3),
    ],
)
def test_what_markers_cannot_express_stays(small: Any, large: Any) -> None:
    assert sized(small, large) == small


def test_what_is_others_each_time_becomes_zeros() -> None:
    once, again = "pc.ram  0x00007f3201e00000 at 0x2000", "pc.ram  0x00007f9bbce00000 at 0x2000"
    steady = answers._steady(returned({"text": once, "pid": 4711}), returned({"text": again, "pid": 815}))
    assert steady == b'{"return": {"text": "pc.ram  0x0000000000000000 at 0x2000", "pid": 0}}'
    assert answers._steady(returned([1]), returned([1, 2])) is None
    assert answers._steady(None, returned(1)) is None


def test_a_repeated_argument_gets_a_marker() -> None:
    question = Question("q", {"name": "one", "n": 17}, ("name", "n"), {"name": "two", "n": 23})
    first = Outcome(None, "GenericError", "no 'one' (17 of one)")
    (marked,) = answers.echoing(
        fake([Outcome(None, "GenericError", "no 'two' (23 of two)")]), [question], [first.reply]
    )
    assert marked == spell({"error": {"class": "GenericError", "desc": "no '«name»' («n» of «name»)"}})
    (unmarked,) = answers.echoing(fake([Outcome(None, "GenericError", "never mind")]), [question], [first.reply])
    assert unmarked is None


def test_the_same_answer_of_all_machines_comes_once() -> None:
    asked = [Question("a", {}), Question("b", {"x": 1})]
    lines = list(answers.lines(asked, {"none": [b"1", b"2"], "pc": [b"1", b"3"]}))
    assert [json.loads(each) for each in lines] == [
        {"execute": "a", "reply": 1},
        {"execute": "b", "arguments": {"x": 1}, "machine": "none", "reply": 2},
        {"execute": "b", "arguments": {"x": 1}, "machine": "pc", "reply": 3},
    ]


def test_strange_arguments_that_are_answered_differently_are_not_generalised() -> None:
    asked = [Question("a", {"x": value}, ("x",), {"x": "y"}) for value in ("1", "2")]
    assert list(answers.lines(asked, {"": [b"1", b"2"]})) == []
    (only,) = answers.lines(asked, {"": [b"1", b"1"]})
    assert json.loads(only) == {"execute": "a", "otherwise": True, "reply": 1}


def test_a_file_is_written_only_if_it_says_something_else(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    # Compressed otherwise than we do, as another version of zlib might.
    path.write_bytes(gzip.compress(b"same\n", 1, mtime=5))
    before = path.read_bytes()
    assert not write(path, b"same\n")
    assert path.read_bytes() == before
    assert write(path, b"other\n")
    assert gzip.decompress(path.read_bytes()) == b"other\n"
    assert write(tmp_path / "y", b"1")
    assert not write(tmp_path / "y", b"1")


def test_elements_keep_their_spelling() -> None:
    array = b'[{"b": 1.50, "a": "],["}, [], "\\u00e9", -0, null]'
    assert elements(array) == [b'{"b": 1.50, "a": "],["}', b"[]", b'"\\u00e9"', b"-0", b"null"]
    assert elements(b"[]") == []
    assert join([b"1", b"2"]) == b"1\n2\n"
    assert line({"execute": "q"}, b'{"return": 1.50}') == b'{"execute": "q", "reply": {"return": 1.50}}'


@pytest.mark.parametrize("name", RELEASES)
def test_only_what_reads_is_asked(name: str) -> None:
    release = load_release(name)
    asked = {each.command for each in questions(release.introspection)}
    assert asked == {command for command in release.commands if reads(command)}
    assert not asked & (OWN_FILE | COMPUTED)
    for each in questions(release.introspection):
        assert each.command.startswith(("query-", "x-query-")) or each.command in {
            "x-accel-stats",
            "x-debug-query-block-graph",
            "xen-event-list",
        }
        release.argument_compiler.checker(each.command)(each.arguments)
        if each.strangers:
            release.argument_compiler.checker(each.command)(each.other)


def test_hidden_names_move_to_other_numbers() -> None:
    known, other = load_release("7.2"), load_release("10.0")
    assert transfer(known.names, known.introspection, known.introspection).to_json() == known.names.to_json()
    moved = transfer(known.names, known.introspection, other.introspection)
    assert moved.alternates == other.names.alternates
    agreeing = [place for place, kind in moved.integers.items() if other.names.integers[place] == kind]
    # A few members became wider between the two releases.
    assert len(moved.integers) - 5 < len(agreeing) > 280
