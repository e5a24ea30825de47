"""Play recordings of long operations: `python -m tests.operations GROUP [-r RELEASE]... [-k TEXT] [-n NUMBER]`."""

from __future__ import annotations

import argparse

import trio

from tests.operations import RELEASES
from tests.operations.player import play

parser = argparse.ArgumentParser(prog="python -m tests.operations", description="Play recordings of long operations.")
parser.add_argument("group", help="jobs, bitmaps, transactions, snapshots, exports, migration, dump, agent")
parser.add_argument("-r", "--release", action="append", help="a release (all)")
parser.add_argument("-k", metavar="TEXT", default="", help="the scenarios whose names have this in them")
parser.add_argument("-n", metavar="NUMBER", type=int, default=5, help="how many differing scenarios are shown (5)")
arguments = parser.parse_args()
for release in arguments.release or RELEASES:
    result = trio.run(play, release, arguments.group, (), lambda each: arguments.k in each["scenario"])
    for name, differences in list(result.differences.items())[: arguments.n]:
        print(f"== {name}")
        for each in differences:
            print(f"  {each}")
    print(f"{release} {arguments.group}: {result}")
