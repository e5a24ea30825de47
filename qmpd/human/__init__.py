"""The human monitor: lines, editor and pages of information."""
