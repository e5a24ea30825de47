"""The error that `qmpd.human` raises."""

from __future__ import annotations


class Misread(Exception):  # noqa: N818 - the name says what happened
    """The arguments cannot be read; the text says why, and may be empty."""
