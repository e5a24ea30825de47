"""Transcripts drawn: what every client sent and was sent, the run state, and what was made to happen, over time.

`read` takes the JSON lines of `qmpd serve -transcript FILE`; `svg` and `html` draw them.  This package knows the
form of a transcript's entries and nothing else of qmpd.
"""

from __future__ import annotations

from qmpd.timeline.page import html
from qmpd.timeline.picture import svg
from qmpd.timeline.transcript import Entry, TranscriptError, entry, read

__all__ = ["Entry", "TranscriptError", "entry", "html", "read", "svg"]
