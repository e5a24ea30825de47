"""A font for pictures of text: characters of ASCII as dots, five across and up to eight down.

It is no copy of a real VGA's font: the letters of a picture are in their places, but look plainer.
"""

from __future__ import annotations

import functools

HEIGHT = 16
"""Scan lines of a character; each row of dots takes two."""

# Of each character from the space on its five columns, the topmost dot being the lowest bit.
_COLUMNS = bytes.fromhex(
    "0000000000 00005f0000 0007000700 147f147f14 242a7f2a12 2313086462 3649562050 0000070000 001c224100 0041221c00"
    "2a1c7f1c2a 08083e0808 0080600000 0808080808 0000606000 2010080402 3e5149453e 00427f4000 6251494946 2241494936"
    "1814127f10 2745454539 3e49494932 0171090503 3649494936 264949493e 0000242400 0080640000 0814224100 1414141414"
    "0041221408 0201510906 3e415d551e 7e0909097e 7f49494936 3e41414122 7f4141413e 7f49494941 7f09090901 3e4149493a"
    "7f0808087f 00417f4100 2040413f01 7f08142241 7f40404040 7f020c027f 7f0408107f 3e4141413e 7f09090906 3e4151215e"
    "7f09192946 2649494932 01017f0101 3f4040403f 1f2040201f 3f4038403f 6314081463 0708700807 6151494543 007f414100"
    "0204081020 0041417f00 0402010204 8080808080 0001020400 2054545478 7f44444438 3844444428 384444447f 3854545418"
    "087e090102 18a4a4a47c 7f04040478 00447d4000 4080847d00 7f10284400 00417f4000 7c04780478 7c04040478 3844444438"
    "fc24242418 18242424fc 7c08040408 4854545424 043f444020 3c4040407c 1c2040201c 3c4038403c 4428102844 1ca0a0a07c"
    "4464544c44 0008364100 00007f0000 0041360800 0804081008"
)
_FIRST, _COUNT, _WIDTH = 0x20, 95, 5
# What stands for a character that there is none of.
_UNKNOWN = bytes.fromhex("7f4141417f")


@functools.cache
def dots(character: str) -> tuple[int, ...]:
    """The scan lines of a character, from the top: of each the dots, the leftmost of eight being the highest bit."""
    number = ord(character) - _FIRST
    columns = _COLUMNS[number * _WIDTH : (number + 1) * _WIDTH] if 0 <= number < _COUNT else _UNKNOWN
    rows = []
    for row in range(HEIGHT // 2):
        rows += [sum((column >> row & 1) << 6 - place for place, column in enumerate(columns))] * 2
    return tuple(rows)
