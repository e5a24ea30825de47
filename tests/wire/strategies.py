"""Bytes that are JSON, almost JSON, or nothing of the kind, in the proportions that make a parser sweat."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

STRUCTURAL = [b"{", b"}", b"[", b"]", b":", b","]
NUMBERS = [
    *(b"0", b"1", b"-0", b"-", b"01", b"1.5", b"1.", b".5", b"1e5", b"0e1", b"-0E1", b"1E+3", b"1e", b"1e+", b"-1"),
    *(b"1e-400", b"1e400", b"-1e400", b"0.0", b"-0.0", b"0.1", b"0.10e-2", b"5e-324", b"1.7976931348623157e308"),
    *(b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616"),
    *(b"-9223372036854775808", b"-9223372036854775809", b"1" * 40, b"1." + b"3" * 120, b"123456789012345678901e-5"),
]
KEYWORDS = [b"true", b"false", b"null", b"nul", b"truefalse", b"x", b"k" * 1100]
STRINGS = [
    *(b'""', b"''", b'"a"', b"'a'", b'"id"', b'"execute"', b'"a b"', b"'\"'", b'"\'"', b'"\x7f"'),
    *(b'"\\u0041"', b'"\\u00e9"', b'"\\u0000"', b'"\\u12"', b'"\\u"', b'"\\x"', b'"\\\'"', b"'\\\"'", b"'it\\'s'"),
    *(b'"\\ud83d\\ude00"', b'"\\ud83d"', b'"\\ude00\\ud83d"', b'"\\ud83f\\udfff"', b'"\\ud800\\u0041"'),
    *(b'"\\uD83D\\uDE0"', b'"\\ud83d\xc3\xa9"', b'"\\ufffe"', b'"\\ufdd0"', b'"\\ufffd"', b'"a\\n\\t\\/\\\\\\b\\f\\r"'),
    *(b'"\xc3\xa9"', b'"\xc3"', b'"\xc3\\n"', b'"\xc0\x80"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xef\xbf\xbf"'),
    *(b'"\xef\xb7\x90"', b'"\xf0\x9f\x98\x80"', b'"\xf0\x9f\x98"', b'"\xf0\x9f\xbf\xbe"', b'"\xf4\x90\x80\x80"'),
    *(b'"\xf8\x88\x80\x80\x80"', b'"\xfc\x84\x80\x80\x80\x80"', b'"\xfd\xbf\xbf\xbf\xbf\xbf"', b'"\x80"'),
    *(b"'\xc3\xa9\\u00e9'", b'"' + b"l" * 1010 + b'"', b'"' + b"m" * 1300 + b'\\n"', b'"\xe2\x82\xac\\u20ac"'),
]
STRAYS = [
    *(b'"', b"'", b"\\", b"%d", b"%", b"/", b"+", b".", b"A", b"\x00", b"\x01", b"\x0b", b"\x0c", b"\x7f", b"\x80"),
    *(b"\xc3\xa9", b"\xfe", b"\xff", b"\xef\xbb\xbf", b'"\x01"', b'"\t"', b'"\n"', b'"\x00', b'"\xff', b'"\\\x01'),
    *(
        b'"' + b"n" * 1020 + b"\xc3\xa9\xc3\x01",
        b'"\xf0\x9f\x98\x80\xe2\x82\x1f',
        b"'\xed\xa0\x80\xf8\x88\x80\x80\x80\n",
    ),
]
WHITESPACE = [b"", b"", b"", b" ", b"\n", b"\t", b"\r\n", b"  "]

tokens = st.sampled_from(STRUCTURAL * 10 + NUMBERS + KEYWORDS + STRINGS + STRAYS)
spaces = st.sampled_from(WHITESPACE)
token_soup = st.lists(st.tuples(tokens, spaces).map(b"".join), max_size=16).map(b"".join)

scalars = st.one_of(
    st.sampled_from([b"true", b"false", b"null", b"0", b"-17", b"'s'", b'"x"', b'"\\n\\u00e9"', b"{}", b"[]"]),
    st.integers(-(10**20), 10**20).map(lambda number: b"%d" % number),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: repr(number).encode()),
)
keys = st.one_of(
    st.sampled_from([b'"a"', b'"b"', b"'k'", b'"id"']), st.integers(0, 60).map(lambda number: b'"%d"' % number)
)


def _array(elements: list[bytes]) -> bytes:
    return b"[" + b",".join(elements) + b"]"


def _object(members: list[tuple[bytes, bytes, bytes]]) -> bytes:
    return b"{" + b",".join(key + b":" + space + value for key, space, value in members) + b"}"


# Objects with few distinct keys, so that some are duplicate.
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(_array),
        st.lists(st.tuples(keys, spaces, inner), max_size=5).map(_object),
    ),
    max_leaves=12,
)
requests = st.one_of(
    values.map(lambda value: b'{"execute":"no-such-command","id":' + value + b"}"),
    token_soup.map(lambda soup: b'{"execute":"no-such-command","id":' + soup + b"}"),
)
pipelines = st.tuples(
    st.sampled_from([b"", b"\n", b" ", b"\r\n", b"\n\n"]), st.lists(requests, min_size=1, max_size=4), spaces
).map(lambda parts: parts[0].join(parts[1]) + parts[2])


def _mutate(case: tuple[bytes, list[tuple[int, bytes | int]]]) -> bytes:
    data = bytearray(case[0])
    for place, change in case[1]:
        at = place % (len(data) + 1)
        if isinstance(change, int):
            del data[at : at + change]
        else:
            data[at:at] = change
    return bytes(data)


mutated = st.tuples(
    pipelines, st.lists(st.tuples(st.integers(0, 2000), st.one_of(tokens, st.integers(1, 4))), min_size=1, max_size=4)
).map(_mutate)

# What a client might send, good or bad.
input_bytes = st.one_of(token_soup, pipelines, mutated, st.binary(max_size=40))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in slices that end at `places` (modulo its length)."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]
