"""Children of a live update that do not do what they should: programs for `live-update-prepare`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Those that never become ready know nothing of the protocol; `descriptor` is the end of the socket pair that is theirs.
_STRANGER = "#!{python} -IS\nimport os, sys, time\ndescriptor = int(sys.argv[2])\n{body}\n"

NEVER_READY = {
    "ends": "sys.exit(3)",
    "sleeps": "time.sleep(60)",
    "babbles": "os.write(descriptor, os.urandom(200)); time.sleep(60)",
    "claims": "os.write(descriptor, b'QMPU' + bytes([64] + [0] * 7) + bytes(4)); time.sleep(60)",
    "closes": "os.close(descriptor); time.sleep(60)",
}
"""Name -> what it does."""

# Those that fail when they are to take over are this program, but for what they say.
_RELATIVE = """#!{python}
import os, sys, time
sys.path.insert(0, {root!r})
from qmpd.server.hand_over import child, frames
descriptor = int(sys.argv[2])
def tell(channel, message, descriptors=(), told=frames.Channel.send):
    if message["kind"] == {kind!r}:
        {body}
    told(channel, message, descriptors)
frames.Channel.send = tell
sys.exit(child.main(sys.argv[2:]))
"""

FAILING = {
    "dies": "os._exit(5)",
    "hangs": "time.sleep(60)",
    "refuses": "message = {'kind': 'refused', 'reason': 'it does not want to'}",
    "lies": "os.write(descriptor, os.urandom(100)); time.sleep(60)",
    "boasts": "os.write(descriptor, b'QMPU' + bytes([64] + [0] * 7) + bytes(4)); time.sleep(60)",
    "drips": "[(os.write(descriptor, b'Q'), time.sleep(0.05)) for _ in range(600)]",
}
"""Name -> what it does where it should say that it stands ready, or serves."""

MOMENTS = ("standing", "serving")


def never_ready(folder: Path, name: str) -> str:
    """The path of a program that does not become ready."""
    return _write(folder, name, _STRANGER.format(python=sys.executable, body=NEVER_READY[name]))


def failing(folder: Path, name: str, moment: str, root: Path) -> str:
    """The path of a program that becomes ready, and fails at this moment of the commit."""
    text = _RELATIVE.format(python=sys.executable, root=str(root), kind=moment, body=FAILING[name])
    return _write(folder, f"{name}-{moment}", text)


def _write(folder: Path, name: str, text: str) -> str:
    path = folder / f"child-{name}"
    if not path.exists():
        path.write_text(text)
        path.chmod(0o700)
    return str(path)
