"""The stream that a machine's state travels in: what is written is read again, whatever else comes is refused."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmpd.migration import stream, values
from qmpd.migration.stream import BadStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.migration.support import Sides

_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 100), 1 << 100) | st.floats(allow_nan=False) | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(_PLAIN)
def test_a_value_is_read_as_it_was_written(value: Any) -> None:
    assert values.read(values.write(value)) == value


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=9), _PLAIN, max_size=3), st.binary(max_size=40))
def test_sections_are_read_as_they_were_written_whatever_follows(sections: dict[str, Any], filling: bytes) -> None:
    assert stream.read(stream.write(sections) + filling) == sections


@pytest.mark.parametrize("seed", range(5))
def test_a_changed_stream_is_refused_or_the_same(seed: int) -> None:
    chance = random.Random(seed)
    sections = {"core": {"state": "running", "timers": [1, 2, 3]}, "machine": {"memory": 1 << 30}}
    whole = stream.write(sections)
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        data = bytes(changed[: chance.randint(0, len(changed))]) if chance.random() < 0.3 else bytes(changed)
        try:
            found = stream.read(data)
        except BadStream:
            continue
        assert all(value in sections.values() for value in found.values())


_DISK = ["-blockdev", "driver=null-co,node-name=n,size=1048576,read-zeroes=on"]
_NONSENSE: list[Any] = [None, 5, "x", [], {}, [["a"]], [[["a"], "b"]], {"state": 5}, {"machine": {}, "answers": 5}]


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The value's place, and those of what is in it."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for name, each in inner:
        yield from _places(each, (*at, name))


def _with(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    if isinstance(value, dict):
        return {**value, at[0]: _with(value[at[0]], at[1:], new)}
    return [*value[: at[0]], _with(value[at[0]], at[1:], new), *value[at[0] + 1 :]]


def _send(place: Path, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place))
        client.sendall(data)


@pytest.mark.parametrize("name", ["start", "switch", "disk", "recover", "bitmap-heads", "bitmap"])
@pytest.mark.parametrize("number", range(len(_NONSENSE)))
def test_a_first_section_of_nonsense_is_refused(sides: Sides, tmp_path: Path, name: str, number: int) -> None:
    there = sides.one("7.2", *_DISK, "-incoming", f"unix:{tmp_path}/m.sock")
    _send(tmp_path / "m.sock", stream.head() + stream.section(name, _NONSENSE[number]))
    assert there.is_at_end()


@pytest.mark.parametrize("name", ["start", "bitmap-heads", "bitmap", "devices", "switch"])
def test_nonsense_in_a_machine_is_refused_or_taken(sides: Sides, tmp_path: Path, name: str) -> None:
    here = sides.one("7.2", *_DISK)
    here.capabilities("dirty-bitmaps")
    here("block-dirty-bitmap-add", node="n", name="b")
    here("migrate", uri=f"exec:cat > {tmp_path}/stream")
    here.until("completed")
    sections = stream.Arriving().take((tmp_path / "stream").read_bytes())
    (value,) = (value for each, value in sections if each == name)
    choices = [(at, new) for at in _places(value) for new in (None, 5, "x", [["a"]])]
    for number, (at, new) in enumerate(choices):
        place = tmp_path / f"{number}.sock"
        there = sides.one("7.2", *_DISK, "-incoming", "defer")
        there.capabilities("dirty-bitmaps")
        there("migrate-incoming", uri=f"unix:{place}")
        damaged = ((each, _with(value, at, new) if each == name else other) for each, other in sections)
        _send(place, stream.head() + b"".join(stream.section(*each) for each in damaged) + stream.END)
        there.until("completed", "failed")
