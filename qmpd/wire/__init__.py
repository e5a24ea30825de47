"""Bytes to messages and back: QMP's JSON dialect."""
