"""How many files a process may have open."""

from __future__ import annotations

import resource


def raise_file_limit() -> int:
    """Allow this process as many open files as the system lets it have; how many that are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
