"""Deliberate defects, each planted in a copy of qmpd of its own, to see that something notices."""
