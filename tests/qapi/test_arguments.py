"""Argument errors: QEMU's words, order and paths, against what real QEMU answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qmpd.qapi import load_release
from qmpd.qapi.arguments import compile_checker
from qmpd.qapi.errors import ArgumentError
from qmpd.qapi.introspection import Introspection
from qmpd.qapi.naming import Names
from qmpd.qapi.unexpected import first_unexpected
from tests.golden import RELEASES, load

# These commands get their arguments unchecked (QAPI's `'gen': false`); what they answered comes from the command.
UNCHECKED = {
    "5.2": {"device_add", "object-add", "query-qmp-schema"},
    "7.2": {"device_add"},
    "10.0": {"device_add"},
    "11.1": {"device_add"},
}


def error_of(release: str, command: str, arguments: dict[str, Any]) -> str | None:
    known = load_release(release)
    try:
        known.argument_compiler.checker(command)(arguments)
    except ArgumentError as error:
        return known.refusals.message(error)
    return None


@pytest.mark.parametrize("release", RELEASES)
def test_recorded_argument_errors(release: str, capsys: pytest.CaptureFixture[str]) -> None:
    same = total = elsewhere = 0
    different = []
    for scenario in load(release, "arguments"):
        for step in scenario["steps"]:
            request = json.loads(step["send"])
            answers = [json.loads(line) for line in step["recv"]]
            if "arguments" not in request:
                continue
            if request["execute"] in UNCHECKED[release]:
                elsewhere += 1
                assert error_of(release, request["execute"], request["arguments"]) is None
                continue
            total += 1
            expected = answers[0].get("error", {}).get("desc")
            found = error_of(release, request["execute"], request["arguments"])
            same += found == expected
            if found != expected:
                different.append((step["send"], expected, found))
    with capsys.disabled():
        print(
            f"\nargument errors of {release}: {same} of {total} ({elsewhere} more are answered by the command itself)"
        )
    assert total > 900
    assert not different


def test_unchecked_commands_are_known() -> None:
    assert {release: set(load_release(release).names.unchecked) for release in RELEASES} == UNCHECKED


@pytest.mark.parametrize("release", RELEASES)
def test_recorded_negotiation_errors(release: str) -> None:
    (scenario,) = (each for each in load(release, "protocol") if each["scenario"] == "handshake refused")
    compared = 0
    for step in scenario["steps"]:
        request = json.loads(step["send"])
        if "arguments" in request:
            (answer,) = (json.loads(line) for line in step["recv"])
            assert error_of(release, request["execute"], request["arguments"]) == answer.get("error", {}).get("desc")
            compared += 1
    assert compared == 5


# Asked of QEMU 10.0 (and of the others, where the text differs).
ASKED: list[tuple[str, dict[str, Any], str]] = [
    ("query-status", {"b": 1, "a": 2}, "Parameter 'b' is unexpected"),
    ("block_resize", {"size": 1.0}, "Invalid parameter type for 'size', expected: integer"),
    ("block_resize", {"size": True}, "Invalid parameter type for 'size', expected: integer"),
    ("block_resize", {"size": 1 << 63}, "Invalid parameter type for 'size', expected: integer"),
    ("block_resize", {"size": 1 << 62, "x": 1}, "Parameter 'x' is unexpected"),
    ("set_link", {"name": "x", "up": 1}, "Invalid parameter type for 'up', expected: boolean"),
    ("qom-set", {"path": "x", "property": "y"}, "Parameter 'value' is missing"),
    ("qom-set", {"path": "x", "property": "y", "value": None, "x": 1}, "Parameter 'x' is unexpected"),
    ("send-key", {"keys": [{"type": "qcode", "data": "a"}, {"type": "number"}]}, "Parameter 'keys[1].data' is missing"),
    ("send-key", {"keys": [{"type": "qcode", "data": "no"}]}, "Parameter 'data' does not accept value 'no'"),
    ("send-key", {"keys": [{"type": "number", "data": 1, "z": 1}]}, "Parameter 'keys[0].z' is unexpected"),
    (
        "migrate-set-parameters",
        {"multifd-channels": 256, "x": 1},
        "Parameter 'multifd-channels' expects uint8_t",
    ),
    ("migrate-set-parameters", {"multifd-channels": -1, "x": 1}, "Parameter 'multifd-channels' expects uint8_t"),
    ("migrate-set-parameters", {"multifd-channels": "x", "x": 1}, "Parameter 'multifd-channels' expects uint64"),
    ("migrate-set-parameters", {"max-bandwidth": -1, "x": 1}, "Parameter 'x' is unexpected"),
    ("migrate-set-parameters", {"max-bandwidth": 1e30, "x": 1}, "Parameter 'max-bandwidth' expects uint64"),
    (
        "blockdev-add",
        {"driver": "qcow2", "file": {"driver": "file", "filename": "x", "z": 1}},
        "Parameter 'file.z' is unexpected",
    ),
    ("blockdev-add", {"driver": "qcow2", "file": 5}, "Invalid parameter type for 'file', expected: BlockdevRef"),
    ("blockdev-add", {"driver": "qcow2", "file": {"driver": "file"}}, "Parameter 'file.filename' is missing"),
    ("blockdev-reopen", {"options": [{"driver": "no"}]}, "Parameter 'driver' does not accept value 'no'"),
    ("blockdev-reopen", {"options": [{"driver": "raw"}, []]}, "Parameter 'options[0].file' is missing"),
    ("qmp_capabilities", {"enable": ["oob", "{name}"]}, "Parameter 'null' does not accept value '{name}'"),
]


@pytest.mark.parametrize(("command", "arguments", "message"), ASKED)
def test_words_and_order(command: str, arguments: dict[str, Any], message: str) -> None:
    if command == "block_resize":
        arguments = {**arguments, "device": "x"}
    assert error_of("10.0", command, arguments) == message


def test_valid_arguments_pass() -> None:
    assert error_of("10.0", "query-status", {}) is None
    assert error_of("10.0", "human-monitor-command", {"command-line": "info status"}) is None
    assert error_of("10.0", "blockdev-add", {"driver": "raw", "file": {"driver": "raw", "file": "x"}}) is None
    assert error_of("10.0", "device_add", {"driver": "x", "anything": [1]}) is None


def test_unknown_command() -> None:
    with pytest.raises(KeyError):
        load_release("10.0").argument_compiler.checker("no-such-command")


def test_commands_are_compiled_from_the_plain_list() -> None:
    entries: list[dict[str, Any]] = [
        {"name": "c", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
        {"name": "0", "meta-type": "object", "members": []},
        {"name": "1", "meta-type": "object", "members": [{"name": "n", "type": "[int]"}, {"name": "o", "type": "2"}]},
        {"name": "2", "meta-type": "object", "members": [{"name": "again", "type": "2", "default": None}]},
        {"name": "[int]", "meta-type": "array", "element-type": "int"},
        {"name": "int", "meta-type": "builtin", "json-type": "int"},
    ]
    check = compile_checker(Introspection(entries), "c", Names({"1/n": "int8"}))
    check({"n": [-128, 127], "o": {"again": {"again": {}}}})
    with pytest.raises(ArgumentError, match=r"^integer-narrow \(name='null', kind='int8'\)$"):
        check({"n": [1, 128], "o": {}})
    with pytest.raises(ArgumentError, match=r"^parameter-type \(name='o.again.again', expected='object'\)$"):
        check({"n": [], "o": {"again": {"again": []}}})


# Asked of QEMU 10.0: as arguments of `query-status`, where no member is known, and of `set-action`, where four are.
UNEXPECTED = [
    ("iu ebl-", False, "ebl-"),
    ("g kwxh_ y", False, "g"),
    ("xfi z_ykyj ofnc yaiuj fming xbb épsuet l", False, "xbb"),
    ("sm kv sfj u wrg _ia uz_ tjjjes tcrzi", False, "u"),
    ("l_j k ewki m mg b eteboh d iésff lbmh yoah pw zeb- dq_sz vocgz-", False, "l_j"),
    (
        "omy bzfi mxez uj héa aj dwrpp ykwé ab-p-w izwrm hr jmrtsi fxt c _fsjia p x e étéc- tvry ytz -u kvp é-llx mrh "
        "nqxll n -rjchg",
        False,
        "-u",
    ),
    ("rva watchdog shutdown gqsd reboot panic", True, "rva"),
    ("efsiz qyo panic _hjpp sektp zc_ shutdown watchdog reboot c réeurb", True, "réeurb"),
    ("op watchdog shutdown a -éaaip e r-kft r xf be_z_o panic bpje jirds waft reboot pmi", True, "op"),
    ("reboot pr shutdown c watchdog qghélh xj jkt fc z ktj _moj aaz émvq njijij panic l _tv", True, "z"),
    (
        "m nsx_éa cys yqh dm é- éyum ee y czj bwbubv jhld p-nm vzj myhqh af __ vhnppe panic wnvi ga mruzpy kgyemd t je "
        "wtdfxq iw-vxj reboot kmmyd watchdog shutdown c tur x wg p uqtéw _zib we lgai qzi-xe bzstg -mvoku",
        True,
        "x",
    ),
]


@pytest.mark.parametrize(("keys", "visits", "named"), UNEXPECTED)
def test_which_unexpected_member_is_named(keys: str, visits: bool, named: str) -> None:
    visited = ["reboot", "shutdown", "panic", "watchdog"] if visits else []
    assert first_unexpected(keys.split(), visited) == named
