"""How bytes group into tokens: the lexical grammar of QMP's JSON dialect, as tables and patterns.

Theory. Outside strings a byte starts a token, ends one, or is an error. Numbers and keywords end only when the byte
after them has come (`17` is no message yet), and that byte is then looked at again as the start of the next token. A
bad byte belongs to the bad token and is swallowed with it. After it everything is skipped up to a byte at which a
message could start or end: one of `{}[]:,`, a control character other than TAB, or FE and FF, which occur in no
encoding of a character and with which a client can always bring the parser back to its senses. All releases lex alike
(`protocol` recordings, and random bytes put to the real programs).

`TOKEN` is the quick way over tokens that are whole, well formed and not long. The others (cut by the end of a chunk,
bad, long) walk `TRANSITIONS` a byte at a time, after `run` has swallowed in one go whatever leaves the state as it is.
"""

from __future__ import annotations

import re

# What the lexer is in the middle of.
START = 0
DOUBLE_QUOTED = 1
DOUBLE_QUOTED_ESCAPE = 2
SINGLE_QUOTED = 3
SINGLE_QUOTED_ESCAPE = 4
SIGN = 5
ZERO = 6
DIGITS = 7
POINT = 8
FRACTION = 9
EXPONENT = 10
EXPONENT_SIGN = 11
EXPONENT_DIGITS = 12
KEYWORD = 13
RECOVERY = 14

# Outcomes of a step that are no state to be in.
ERROR = 15
RESTART = 16  # leave recovery; the byte is looked at again

# Kinds of tokens, numbered as the groups of TOKEN. As an outcome of a step, the token ends with the byte ...
TOKEN_STRUCTURAL = 1
TOKEN_STRING = 2
TOKEN_INTEGER = 3
TOKEN_FLOAT = 4
TOKEN_KEYWORD = 5
NO_TOKEN = 6
ENDS = 32  # + kind: ... and includes it
ENDED = 64  # + kind: ... before it, and the byte is looked at again

_WHITESPACE = b" \t\r\n"
_STRUCTURAL = b"{}[]:,"
_NONZERO = b"123456789"
_DIGIT = b"0123456789"
_LOWERCASE = b"abcdefghijklmnopqrstuvwxyz"
# 20..FD may stand in a string; whether they make sense as UTF-8 is the parser's business.
_STRING_BYTES = bytes(range(0x20, 0xFE))


def _row(otherwise: int, *entries: tuple[bytes, int]) -> bytes:
    row = bytearray([otherwise]) * 256
    for characters, outcome in entries:
        for byte in characters:
            row[byte] = outcome
    return bytes(row)


# TRANSITIONS[state][byte]: the next state, or an outcome.
TRANSITIONS: tuple[bytes, ...] = (
    _row(
        ERROR,
        (_WHITESPACE, START),
        (_STRUCTURAL, ENDS + TOKEN_STRUCTURAL),
        (b'"', DOUBLE_QUOTED),
        (b"'", SINGLE_QUOTED),
        (b"-", SIGN),
        (b"0", ZERO),
        (_NONZERO, DIGITS),
        (_LOWERCASE, KEYWORD),
    ),
    _row(ERROR, (_STRING_BYTES, DOUBLE_QUOTED), (b"\\", DOUBLE_QUOTED_ESCAPE), (b'"', ENDS + TOKEN_STRING)),
    _row(ERROR, (_STRING_BYTES, DOUBLE_QUOTED)),
    _row(ERROR, (_STRING_BYTES, SINGLE_QUOTED), (b"\\", SINGLE_QUOTED_ESCAPE), (b"'", ENDS + TOKEN_STRING)),
    _row(ERROR, (_STRING_BYTES, SINGLE_QUOTED)),
    _row(ERROR, (b"0", ZERO), (_NONZERO, DIGITS)),
    # `01` is an error; `0e1` is the number 0 and then the keyword `e`.
    _row(ENDED + TOKEN_INTEGER, (_DIGIT, ERROR), (b".", POINT)),
    _row(ENDED + TOKEN_INTEGER, (_DIGIT, DIGITS), (b".", POINT), (b"eE", EXPONENT)),
    _row(ERROR, (_DIGIT, FRACTION)),
    _row(ENDED + TOKEN_FLOAT, (_DIGIT, FRACTION), (b"eE", EXPONENT)),
    _row(ERROR, (_DIGIT, EXPONENT_DIGITS), (b"+-", EXPONENT_SIGN)),
    _row(ERROR, (_DIGIT, EXPONENT_DIGITS)),
    _row(ENDED + TOKEN_FLOAT, (_DIGIT, EXPONENT_DIGITS)),
    _row(ENDED + TOKEN_KEYWORD, (_LOWERCASE, KEYWORD)),
    _row(RECOVERY, (bytes(range(0x20)) + b"\xfe\xff" + _STRUCTURAL, RESTART), (b"\t", RECOVERY)),
)

# Whitespace, then a whole token. A number or keyword is only taken here when what follows leaves no doubt that it is
# over, a string only while it is short. Where there is no such token the empty last group matches, so that an iteration
# never searches ahead. What can be repeated never overlaps with what follows it, so a failed attempt goes back over its
# characters once. (No possessive quantifiers: Python before 3.11.5 matches some of them wrongly.)
TOKEN = re.compile(
    rb"""
    [ \t\r\n]*
    (?: ([{}\[\]:,])
      | ( "[\x20\x21\x23-\x5b\x5d-\xfd]{0,999}(?:\\[\x20-\xfd][\x20\x21\x23-\x5b\x5d-\xfd]{0,999}){0,99}"
        | '[\x20-\x26\x28-\x5b\x5d-\xfd]{0,999}(?:\\[\x20-\xfd][\x20-\x26\x28-\x5b\x5d-\xfd]{0,999}){0,99}' )
      | (-?(?:0|[1-9][0-9]{0,99}))(?=[ \t\r\n,\]}])
      | (-?(?:0\.[0-9]{1,99}|[1-9][0-9]{0,99}(?:\.[0-9]{1,99})?)(?:[eE][-+]?[0-9]{1,99})?)(?=[ \t\r\n,\]}])
      | ([a-z]{1,99})(?=[ \t\r\n,\]}])
      | ()
    )
    """,
    re.VERBOSE,
)

# A repeated group keeps a record of each round, so the number of rounds is limited.
_ESCAPES = rb"(?:\\[\x20-\xfd]%b){0,999}"
_DOUBLE_QUOTED_PLAIN = rb"[\x20\x21\x23-\x5b\x5d-\xfd]*"
_SINGLE_QUOTED_PLAIN = rb"[\x20-\x26\x28-\x5b\x5d-\xfd]*"
_DIGIT_RUN = re.compile(rb"[0-9]*")
_RUNS: dict[int, re.Pattern[bytes]] = {
    START: re.compile(rb"[ \t\r\n]*"),
    DOUBLE_QUOTED: re.compile(_DOUBLE_QUOTED_PLAIN + _ESCAPES % _DOUBLE_QUOTED_PLAIN),
    SINGLE_QUOTED: re.compile(_SINGLE_QUOTED_PLAIN + _ESCAPES % _SINGLE_QUOTED_PLAIN),
    DIGITS: _DIGIT_RUN,
    FRACTION: _DIGIT_RUN,
    EXPONENT_DIGITS: _DIGIT_RUN,
    KEYWORD: re.compile(rb"[a-z]*"),
    RECOVERY: re.compile(rb"[^\x00-\x08\x0a-\x1f\xfe\xff{}\[\]:,]*"),
}
_QUOTES = {DOUBLE_QUOTED: b'"', SINGLE_QUOTED: b"'"}
_PLAIN_STRING_BYTES = _STRING_BYTES.replace(b"\\", b"")


def run(state: int, data: bytes, position: int) -> int:
    """The offset of the first byte from `position` on that could change the state (`len(data)` if none does)."""
    quote = _QUOTES.get(state)
    if quote is not None:
        # Most of a long string is plain; deleting what is plain is six times as fast as matching it.
        end = data.find(quote, position)
        if end < 0:
            end = len(data)
        if end - position > 200 and not data[position:end].translate(None, _PLAIN_STRING_BYTES):
            return end
    pattern = _RUNS.get(state)
    if pattern is None:
        return position
    # A run with many escapes is matched in parts.
    while (match := pattern.match(data, position)) and match.end() > position:
        position = match.end()
    return position
