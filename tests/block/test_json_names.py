"""`json:` names of whatever shape: QEMU flattens them, and takes what it knows.  (The texts are those of QEMU 7.2.)"""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from qmpd.block.executor import outcome_of
from qmpd.testing import StartError
from tests.block.support import Monitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qmpd.testing import VMFactory

NULL = {"driver": "null-co", "size": 1 << 20}
NOTHING = "Must specify either driver or file"
MIXED = "Cannot mix scalar and non-scalar keys"
TWICE = "Cannot reference an existing block device with additional options or a new filename"
NO_FILE = 'A block device must be specified for "file"'
SAVING = {"driver": "copy-before-write", "file": "known"}
REFUSED: list[tuple[object, str]] = [
    ([], "Invalid JSON object given"),
    ({}, NOTHING),
    ({"driver": None}, NOTHING),
    ({"driver": ["raw"], "filename": "x"}, NOTHING),
    ({"filename": "x"}, NOTHING),
    ({"file": {"file": {"filename": "x"}}}, NOTHING),
    ({"driver": 5, "file": 5}, NOTHING),
    ({"driver": "x"}, "Unknown driver 'x'"),
    ({"driver": "raw", "filename": "x"}, NO_FILE),
    ({"driver": "raw", "file": {}}, NO_FILE),
    ({"driver": "raw", "file": "known", "file.driver": "null-co"}, TWICE),
    ({"driver": "file", "filename": 5}, "The 'file' block driver requires a file name"),
    ({**NULL, "cache": "x"}, "Block protocol 'null-co' doesn't support the option 'cache'"),
    ({**NULL, "cache": {"x": [1]}}, "Block protocol 'null-co' doesn't support the option 'cache.x.0'"),
    ({**NULL, "cache.direct": 1}, "Parameter 'cache.direct' expects 'on' or 'off'"),
    ({**NULL, "node-name": 5}, "Invalid node-name: '5'"),
    ({**NULL, "size": True}, "Parameter 'size' expects a non-negative number below 2^64"),
    ({"driver": "raw", "file": NULL, "backing": 5}, "Block format 'raw' does not support the option 'backing'"),
    ({"driver": "copy-on-read", "file": "known", "bottom": 5},
     "Block format 'copy-on-read' does not support the option 'bottom'"),
    ({"driver": "quorum", "vote-threshold": 1, "children": 5}, "Number of provided children must be 1 or more"),
    ({"driver": "quorum", "vote-threshold": 1, "children.1": "known"}, "Option children is not a valid array"),
    ({"driver": "quorum", "vote-threshold": 1, "children": [5]}, 'A block device must be specified for "children.0"'),
    ({"driver": "blkdebug", "image": NULL, "inject-error": 5},
     "Block protocol 'blkdebug' doesn't support the option 'inject-error'"),
    ({"driver": "blkdebug", "image": NULL, "inject-error": [5]},
     "[inject-error] section (index 0) does not consist of keys"),
    ({"driver": "blkdebug", "image": NULL, "inject-error": [{}]}, "Missing event name for rule"),
    ({"driver": "blkdebug", "image": NULL, "inject-error.1.event": "none"},
     "Unused option '1.event' for [inject-error]"),
    ({"driver": "blkdebug", "image": NULL, "inject-error": {"event": "none", "x": 1}},
     "Unknown option 'x' for [inject-error]"),
    ({"driver": "blkdebug", "image": NULL, "take-child-perms": {"x": "write"}},
     "Invalid parameter type for '<anonymous>', expected: array"),
    ({"driver": "nbd", "server": 5}, "NBD server address missing"),
    ({"driver": "nbd", "server": {"type": 5}}, "Parameter 'type' does not accept value '5'"),
    ({"driver": "nbd", "server": {"type": "unix", "path": {"a": 1}}}, "Parameters 'path.*' are unexpected"),
    ({"driver": "nbd", "server": {"type": "unix", "path": None}}, "Internal error: parameter path invalid"),
    ({"driver": "nbd", "server": {"type": "fd", "str": 5}}, "File descriptor named '5' has not been found"),
    ({"driver": "nbd", "server.type": "unix", "server": {"type.x": 1}}, MIXED),
    ({"driver": "nbd", "server": {"type": "unix", "path": "x"}, "path": "x"},
     "Cannot use 'server' and path/host/port at the same time"),
    ({**SAVING, "target": {"size": 1}}, "Parameter 'target.driver' is missing"),
    ({**SAVING, "target": NULL, "x": 1}, "Parameter 'x' is unexpected"),
    ({**SAVING, "target": NULL, "bitmap": "x"}, "Invalid parameter type for 'bitmap', expected: object"),
]  # fmt: skip
# What is put into another place is one of these, or of what else JSON has.
WORDS = (
    "driver", "file", "filename", "cache", "cache.direct", "node-name", "backing", "read-only", "size", "children",
    "children.0", "image", "server", "inject-error", "set-state", "bitmap", "target", "config", "encrypt", "", "a..b",
    "file.driver", "backing.file.filename", "raw", "null-co", "quorum", "blkdebug", "known", "on", "1M", "0",
)  # fmt: skip
numbers = st.integers(-(1 << 64), 1 << 64) | st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | numbers | st.sampled_from(WORDS)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
RIGHT: tuple[dict[str, Any], ...] = (
    {"driver": "raw", "file": NULL, "offset": 512},
    {"driver": "quorum", "vote-threshold": 1, "children": [NULL, {"driver": "raw", "file": NULL}]},
    {"driver": "blkdebug", "image": NULL, "inject-error": [{"event": "read_aio", "errno": 5}]},
    {**SAVING, "target": NULL},
    {"driver": "nbd", "server": {"type": "unix", "path": "/nonexistent"}},
    {"driver": "qcow2", "file": {"driver": "file", "filename": "/nonexistent"}, "overlap-check": {"main-header": True}},
)


@st.composite
def names(draw: st.DrawFn) -> object:
    """Options that are right, with another value in one place."""
    whole = json.loads(json.dumps(draw(st.sampled_from(RIGHT))))
    at: Any = whole
    while True:
        keys = [*at, draw(st.sampled_from(WORDS))] if isinstance(at, dict) else list(range(len(at)))
        key = draw(st.sampled_from(keys))
        inner = at[key] if isinstance(at, list) else at.get(key)
        if not inner or not isinstance(inner, (dict, list)) or draw(st.booleans()):
            at[key] = draw(values)
            return whole
        at = inner


@pytest.fixture(scope="module")
def monitor(qmpd_module: VMFactory) -> Iterator[Monitor]:
    vm = qmpd_module(
        command_line=["-nodefaults", "-device", "ide-cd,id=cd", "-blockdev", "null-co,node-name=known,size=1048576"],
        guest="", release="7.2",
    )  # fmt: skip
    with closing(Monitor(vm.qmp_path)) as client:
        yield client


def put_in(monitor: Monitor, options: object) -> str | None:
    """What is said to a medium of such a name; None where it is in the drive, from which it is taken again then."""
    reply = monitor("blockdev-change-medium", id="cd", filename=f"json:{json.dumps(options)}")
    if "error" in reply:
        return str(reply["error"]["desc"])
    for command in ("query-block", "query-named-block-nodes"):
        assert "return" in monitor(command)
    assert monitor("eject", id="cd", force=True) == {"return": {}}
    return None


@pytest.mark.parametrize(("options", "text"), REFUSED)
def test_what_is_refused(monitor: Monitor, options: object, text: str) -> None:
    assert put_in(monitor, options) == text


def test_what_is_taken_as_text_is_or_not_at_all(monitor: Monitor) -> None:
    for options in (
        {**NULL, "size": [], "read-zeroes": {}, "node-name": True},
        {**NULL, "read-only": "yes", "discard": True, "size": "512k"},
        {"driver": "raw", "file": 5, "file.driver": "null-co"},
        {"driver": "raw", "file": {"driver": "null-co"}, "file.driver": "file"},
        {"driver": "blkdebug", "image": NULL, "inject-error": {"event": "none", "errno": "5", "once": "on"}},
        {"driver": "quorum", "vote-threshold": "1", "children.0": "known", "children.1": NULL},
    ):
        assert put_in(monitor, options) is None


def test_nodes_described_within_each_other_are_opened_or_refused_at_once(monitor: Monitor) -> None:
    for depth in (50, 300):
        name = '{"driver":"raw","file":' * depth + json.dumps(NULL) + "}" * depth
        begun = time.monotonic()
        reply = monitor("blockdev-change-medium", id="cd", filename=f"json:{name}")
        assert time.monotonic() - begun < 2
        if depth == 50:
            assert reply == {"return": {}}
            assert monitor("eject", id="cd", force=True) == {"return": {}}
        else:
            assert reply["error"]["desc"] == "qmpd does not model more than 100 nodes described within each other"


@settings(
    max_examples=120, deadline=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(options=names())
def test_whatever_is_in_whatever_place_is_answered(monitor: Monitor, options: object) -> None:
    assert "defect" not in str(put_in(monitor, options))
    nodes = [each["node-name"] for each in monitor("query-named-block-nodes")["return"]]
    assert nodes == ["known"]


def test_a_configuration_of_blkdebug_that_is_none(monitor: Monitor, tmp_path: Path) -> None:
    path = tmp_path / "rules"
    options = {"driver": "blkdebug", "image": "known", "config": str(path)}
    for text, said in (
        ('[inject-error]\nevent = "read_aio"\n', None),
        ("[\n", "There is no option group '\n'"),
        ("event\n", "no group defined"),
        ("[inject-error]\n \n", "parse error"),
        ('[inject-error]\nevent = "x"\n', "invalid parameter value: x"),
        ('[set-state]\nnew_state = "x"\n', "Parameter 'new_state' expects a number"),
        ('[set-state]\nnew_state = "2"\n', "Missing event name for rule"),
    ):
        path.write_text(text)
        assert put_in(monitor, options) == said


def test_what_is_put_into_an_empty_drive_may_be_written_to_in_5_2(qmpd: VMFactory) -> None:
    vm = qmpd(command_line=["-nodefaults", "-device", "ide-cd,id=cd"], guest="", release="5.2")
    with closing(Monitor(vm.qmp_path)) as monitor:
        monitor("blockdev-change-medium", id="cd", filename=f"json:{json.dumps(NULL)}")
        assert not monitor("query-block")["return"][0]["inserted"]["ro"]


def test_a_driver_that_a_release_does_not_have(qmpd: VMFactory) -> None:
    vm = qmpd(command_line=["-nodefaults", "-device", "ide-cd,id=cd"], guest="", release="5.2")
    with closing(Monitor(vm.qmp_path)) as monitor:
        assert put_in(monitor, {"driver": "preallocate", "file": NULL}) == "Unknown driver 'preallocate'"


def test_what_is_empty_is_an_option_of_its_own(monitor: Monitor) -> None:
    for options, name in (
        ({**NULL, "cache": {}}, "cache"),
        ({"driver": "blkdebug", "image": "known", "inject-error": []}, "inject-error"),
    ):
        said = monitor("blockdev-add", node_name="x", **options)["error"]["desc"]
        assert said == f"Block protocol '{options['driver']}' doesn't support the option '{name}'"


def test_many_nodes_on_top_of_each_other_are_read(monitor: Monitor) -> None:
    below: Any = "known"
    for number in range(4):
        name = '{"driver":"raw","file":' * 59 + json.dumps(below) + "}" * 59
        below = f"x{number}"
        assert monitor("blockdev-add", node_name=below, **json.loads(name)) == {"return": {}}
    assert monitor.human(f'qemu-io {below} "read 0 512"') == ""
    for number in reversed(range(4)):
        assert monitor("blockdev-del", node_name=f"x{number}") == {"return": {}}


def test_a_node_that_is_added_by_hand(monitor: Monitor) -> None:
    for options, said in (
        ("driver=null-co", "'node-name' needs to be specified\n"),
        ("node-name=u", "Must specify either driver or file\n"),
        ("driver=null-co,node-name=u,cache=none", "Block protocol 'null-co' doesn't support the option 'cache'\n"),
        ("driver=null-co,node-name=u,read-only=on", ""),
    ):
        assert monitor.human(f"drive_add -n 0 {options}") == said
    assert monitor.human("info block -n u") == "u: null-co:// (null-co, read-only)\n    Cache mode:       writeback\n"
    assert monitor("blockdev-del", node_name="u") == {"return": {}}


def test_a_defect_at_reading_a_disk_is_an_error_of_that_alone(capsys: pytest.CaptureFixture[str]) -> None:
    error = outcome_of(lambda: dict[str, int]()["x"]).error
    assert isinstance(error, OSError)
    assert "a defect of qmpd: KeyError: 'x'" in str(error)
    assert "KeyError" in capsys.readouterr().err


def test_flash_that_is_no_file_is_looked_at_for_its_size(qmpd: VMFactory) -> None:
    with pytest.raises(StartError) as raised:
        qmpd(command_line=["-machine", "pc", "-pflash", "null-co://"])
    assert "combined size of system firmware exceeds 8388608 bytes" in str(raised.value)


def test_drives_of_one_group_have_what_was_told_last(qmpd: VMFactory) -> None:
    words = [
        "-nodefaults", "-drive", "if=none,id=a,driver=null-co,throttling.iops-total=100,throttling.group=g",
        "-drive", "if=none,id=b,driver=null-co,throttling.bps-total=500,throttling.group=g",
    ]  # fmt: skip
    with closing(Monitor(qmpd(command_line=words, guest="").qmp_path)) as monitor:
        limits = [(each["inserted"]["iops"], each["inserted"]["bps"]) for each in monitor("query-block")["return"]]
    assert limits == [(0, 500), (0, 500)]
