"""Dirty bitmaps: which parts of a node have been written since a moment, for incremental backups."""
