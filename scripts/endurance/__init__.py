"""Fuzz and soak: what looks for ways to break a running qmpd."""
