"""The stream that a machine's state travels in: what is written is read again, whatever else comes is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmpd.migration import stream, values
from qmpd.migration.stream import BadStream

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
