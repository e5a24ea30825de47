"""Transcripts drawn: what every client sent and was sent, the run state, and what was made to happen, over time.

`transcript.read` takes the JSON lines of `qmpd serve -transcript FILE`; `picture.svg` and `page.html` draw them, from
what `chart` and `layout` make of them.  This package knows the form of a transcript's entries and nothing else of
qmpd.
"""
