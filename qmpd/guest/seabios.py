"""SeaBIOS, and why one reset shows as two.

Early in its work SeaBIOS notes, in the RAM copy of itself, that it has run, and a reset of QEMU's `pc` does not put the
original back.  After the next reset it finds the note, takes the reset for one that it must complete, restores its copy
and resets the machine itself; the second time it finds no note and runs in full.  A reset before the note is made is
not doubled.

Measured on machine `pc` under TCG, 40 resets and 15 seconds of a guest that reboots for ever, several times each; first
with the processors to itself (real-time priority), then on a computer that others use:

| release | to itself                          | beside others                                     |
|---------|------------------------------------|---------------------------------------------------|
| 5.2     | one is added, after 17 to 18 ms    | quiet: one in 27 of 31 cases, else two; busy: two |
| 7.2     | one is added, after 22 to 23 ms    | quiet: one in 21 of 35 cases, else two; busy: two |
| 10.0    | one is added, after 25 to 27 ms    | one is added                                      |
| 11.1    | one is added, after 26 to 28 ms    | one is added                                      |

The second of two follows the first within 0.2 ms: the vCPU asks once more before it is stopped.  With the processors to
itself the moment of a `system_reset` makes no difference, but for the first one (before the note: none is added).  The
note is made 5 to 10 ms after a cold start and 0.3 to 0.9 ms after a reset.  A boot sector runs after some 60 ms.
"""

from __future__ import annotations

_MILLISECOND = 1_000_000
_WORD = (1 << 64) - 1

FIRST_NOTE = 10 * _MILLISECOND
"""From a cold start to the note, in nanoseconds."""

NOTE = 600_000
"""From the end of a reset to the note, in nanoseconds."""

END = 60 * _MILLISECOND
"""From the start to the end of the firmware's work, in nanoseconds."""

RESET = 35 * _MILLISECOND
"""From a reset to the one that is added, in nanoseconds."""

RESET_AGAIN = 1 * _MILLISECOND
"""From that to a further one (`GuestSettings.firmware_resets`), in nanoseconds."""


def note(starts: int) -> int:
    """How long it takes to the note, in nanoseconds, where this is the start of that number."""
    return FIRST_NOTE if starts == 1 else NOTE


def resets(bounds: tuple[int, int], starts: int) -> int:
    """How many resets are added, within `bounds`, where this is the start of that number.

    It looks like chance and is none, so that the same steps give the same transcript.
    """
    least, greatest = bounds
    mixed = starts * 0x9E37_79B9_7F4A_7C15 & _WORD
    mixed = (mixed ^ mixed >> 32) * 0xBF58_476D_1CE4_E5B9 & _WORD
    return least + (mixed >> 40) % (greatest - least + 1)
