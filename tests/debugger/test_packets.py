"""Packets as bytes: however they are cut, and whatever is in them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from qmpd.debugger.packets import DAMAGED, Damaged, PacketReader, escape, packet

SIZE = 64
# All but what stands for something else, and what ends a string.
PLAIN = st.binary(max_size=SIZE - 1).map(lambda data: bytes(each for each in data if each not in b"#}*\0"))
NOISE = st.binary(max_size=12) | st.sampled_from([b"$", b"#", b"}", b"*", b"$a*~#", b"$?#3f", b"$?#00", b"+-"])


def read(data: bytes, size: int = SIZE) -> list[bytes | Damaged]:
    return read_pieces([data], size)


def read_pieces(pieces: list[bytes], size: int = SIZE) -> list[bytes | Damaged]:
    reader = PacketReader(size)
    found = []
    for piece in pieces:
        at = 0
        while at < len(piece):
            content, at = reader.feed(piece, at)
            if content is not None:
                found.append(content)
    return found


@given(st.lists(PLAIN))
def test_what_was_packed_is_read(contents: list[bytes]) -> None:
    assert read(b"+".join(map(packet, contents))) == contents


@given(st.lists(NOISE).map(b"".join), st.lists(st.integers(0, 200)))
def test_it_does_not_matter_how_bytes_are_cut(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert read_pieces([data[start:end] for start, end in pairwise(places)]) == read(data)


@given(st.lists(NOISE).map(b"".join))
def test_after_any_bytes_packets_are_read_again(data: bytes) -> None:
    # The first may end what came before; the content that is too long ends everything.
    assert read(data + b"#00#00" + packet(b"qC"))[-1] == b"qC"


@given(st.binary(max_size=SIZE // 2 - 1).filter(lambda data: 0 not in data))
def test_escaped_bytes_come_back(data: bytes) -> None:
    assert read(packet(escape(data))) == [data]


def test_repetitions() -> None:
    assert read(packet(b"0* ")) == [b"0000"]
    assert read(packet(b"0*~"), 128) == [b"0" * 98]
    assert read(packet(b"*!")) == [DAMAGED]
    assert read(b"$" + b"0*~" + b"#ff") == []


@given(st.binary(min_size=1, max_size=8).filter(lambda data: not set(data) & set(b"#}*\0$")), st.integers(1, 255))
def test_a_wrong_sum_is_damage(content: bytes, wrong: int) -> None:
    assert read(b"$%b#%02x" % (content, sum(content) + wrong & 0xFF)) == [DAMAGED]


@given(st.integers(SIZE, 4 * SIZE))
def test_what_is_too_long_is_no_packet(length: int) -> None:
    assert read(packet(b"x" * length) + packet(b"qC")) == [b"qC"]
    assert read(packet(b"x" * (SIZE - 1))) == [b"x" * (SIZE - 1)]
