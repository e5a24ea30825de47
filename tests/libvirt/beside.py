"""What virsh prints with qmpd and with real QEMU, row by row, and what qemu-img finds afterwards.

`python -m tests.libvirt.beside [GROUP ...]` plays the rows of `tests.libvirt.rows` with a libvirtd for each of the two,
and prints what differs. It takes root, libvirt, and QEMU's own `qemu-system-x86_64`, `qemu-img` and `qemu-io`.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import termios
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.golden import RELEASES
from tests.libvirt import linux_guest
from tests.libvirt.rows import GROUPS
from tests.libvirt.support import Libvirt, Watcher, missing
from tests.real_qemu import PROGRAM, programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.libvirt.rows import Group

RELEASE = next((release for release, command in programs().items() if len(command) == 1), "")
"""The release of the computer's own QEMU, which its libvirt belongs to; empty where there is none."""
_PATIENCE = 60.0
_SETTLED = 0.3
"""Seconds until virsh has told of every event."""
TOOLS = ("qemu-img", "qemu-io")
"""QEMU's own programs that libvirt and the rows use."""
_LINUX_MEMORY = 256
_LINUX_GUEST, _NO_GUEST = "-guest agent=on,boot-time=2s,balloon-stats=on", "-guest operating-system=off"
_LINUX_BOOT = "<kernel>@/guest/kernel</kernel><initrd>@/guest/initrd</initrd><cmdline>console=ttyS0 quiet</cmdline>"
# What is different on every computer and in every run, and what stands for it.
_VARYING = (
    (r"qmpd-system-x86_64", "qemu-system-x86_64"),
    (r"(Time [a-z]+:\s+)[0-9.]+ +\S+", r"\1TIME"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?( [+-]\d{4})?", "DATE"),
    (r"(time_elapsed(_net)?): \d+", r"\1: TIME"),
    (r" downtime_net: -?\d+", ""),
    (r"([a-z]+ w/o network: +).*", r"\1TIME"),
    (r'"date-(n?)sec": \d+', r'"date-\1sec": TIME'),
    (r'("vm-clock-n?sec": |)\b(\d\d)?\d\d:\d\d:\d\d\.\d+', r"\1TIME"),
    (r'"vm-clock-(n?)sec": \d+', r'"vm-clock-\1sec": TIME'),
    (r"(<creationTime>)\d+", r"\1TIME"),
    (r"(CPU time: +)\S+", r"\1TIME"),
    (r"(os\.kernel-\w+ +: ).*", r"\1..."),
    (r"(fs\.\d+\.\w+-bytes +: )\d+", r"\1BYTES"),
    (r"\bminor_fault \d+", "minor_fault N"),
    (r"\b(rss|unused|available|usable|disk_caches|last_update) [1-9]\d*", r"\1 N"),
    (r"Time: (?!17000000)\d+", "Time: NOW"),
    # What a console shows of the guest's own.
    (r"login\[\d+\]", "login[N]"),
    (r"BusyBox v.* built-in", "BusyBox VERSION built-in"),
    (r"\[ +\d+\.\d+\] ", "[ TIME] "),
    # How often the firmware resets the machine once more is a matter of time.
    (r"(\nreboot: ?)+", r"\1"),
    (r"(rtc-change: -?\d+)\d{4}", r"\1N"),
    # Whether libvirt hears of it before it sees that the process is gone.
    (r"lifecycle: Shutdown Finished after host request\n", ""),
    (r"\nagent-lifecycle: state: 'disconnected' reason: 'channel event'\s*\Z", ""),
    (r"/dev/pts/\d+", "/dev/pts/N"),
    # An overlay is called after the second in which it was made.
    (r"(@/[a-z]+)\.\d{10}\b", r"\1.SECOND"),
    (r"(domain-)\d+(-)", r"\1N\2"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID"),
    # How far a job has come whenever virsh looks; what is last counts.
    (r"(?:\n?([A-Z][A-Za-z ]+): \[ *[\d.]+ %\])*\n?([A-Z][A-Za-z ]+: \[ *[\d.]+ %\])", r"\n\2"),
    # How much memory holds something, and how fast it goes.
    (r"(downtime|setup_time|_(processed|constant|normal|normal_bytes)): \d+", r"\1: N"),
    (r" memory_bps: \d+", ""),
    (r"((Data|Memory) processed|Memory bandwidth|(Constant|Normal) (pages|data)): .*", r"\1: N"),
    (r"(Total downtime|Setup time): .*", r"\1: N"),
    (r"calc_start_time=\d+", "calc_start_time=UPTIME"),
    (r"((total time|setup|throughput|duplicate|normal( bytes)?|pages-per-second|[a-z]+ ram): )\S+", r"\1N"),
    # What is in registers.
    (r"(description data: (?:\S\S ){8}).*", r"\1..."),
    # Requests that run at once find their place in an image in any order, and file systems count their own blocks.
    (r"\d+\.\d+% fragmented", "N% fragmented"),
    (r'"actual-size": \d+', r'"actual-size": SIZE'),
)
# And where an image has the state of the machine: it is as long as what its memory holds.
_STATE = (
    (r"\b\d+(\.\d+)? [KM]iB(?= +DATE)", "SIZE"),
    (r'"vm-state-size": \d+', r'"vm-state-size": SIZE'),
    (r"\d+/(\d+) = [0-9.]+% allocated", r"N/\1 allocated"),
    (r"Image end offset: \d+", "Image end offset: N"),
)


class Side:
    """One of the two: a libvirtd, and the domain `vm` that a group's rows speak of."""

    def __init__(self, libvirt: Libvirt, other: Libvirt | None = None) -> None:
        """`other` is where domains move to."""
        self.libvirt = libvirt
        self.other = other
        self._pool = ThreadPoolExecutor(1)
        self._begun: Future[str] | None = None

    def play(self, group: Group) -> list[str]:
        """What each row of a group prints, and the events of all of it, made comparable."""
        self._define(group)
        try:
            varying = (*_VARYING, *(_STATE if group.state else ()))
            with Watcher(self.libvirt) as watcher:
                said = [self._plain(self._row(line), varying) for line in group.lines]
                time.sleep(_SETTLED)
                return [*said, self._plain(_events(watcher), varying)]
        finally:
            if self.other is not None:
                self.other.virsh("destroy", "vm", check=False)
                self.other.virsh("undefine", "vm", check=False)
            self.libvirt.virsh("destroy", "vm", check=False)
            self.libvirt.virsh("undefine", "vm", "--snapshots-metadata", "--checkpoints-metadata", check=False)

    @property
    def _there(self) -> Libvirt:
        assert self.other is not None, "the rows speak of another host"
        return self.other

    def _define(self, group: Group) -> None:
        script = f",script={self.libvirt.file('guest.toml', group.script)}" if group.script else ""
        self.libvirt.set_options(_LINUX_GUEST + script if group.linux else _NO_GUEST if group.empty else "")
        for path in self.libvirt.folder.glob("*.qcow2"):
            path.unlink()
        for line in group.images:
            self._row(line)
        for name, text in group.files.items():
            self.libvirt.file(name, self._here(text))
        description = self.libvirt.domain(
            "vm",
            self._here(group.devices),
            group.machine,
            memory=_LINUX_MEMORY if group.linux else 32,
            boot=self._here(_LINUX_BOOT) if group.linux else "",
        )
        self.libvirt.virsh("define", description)

    def _here(self, text: str) -> str:
        if self.other is not None:
            text = text.replace("@other", self.other.uri)
        return text.replace("@", str(self.libvirt.folder))

    def _plain(self, text: str, varying: Sequence[tuple[str, str]]) -> str:
        text = text.replace(str(self.libvirt.emulator), "EMULATOR")
        if self.other is not None:
            text = text.replace(self.other.uri, "@other").replace(str(self.other.folder), "@other")
        text = text.replace(str(self.libvirt.folder), "@")
        for pattern, stands in varying:
            text = re.sub(pattern, stands, text)
        return "\n".join(line.rstrip() for line in text.strip().splitlines())

    def _row(self, line: str) -> str:
        """What one row prints (see `tests.libvirt.rows`)."""
        words = shlex.split(self._here(line))
        if words[0] != "until":
            return self._run(words)
        deadline = time.monotonic() + _PATIENCE
        while True:
            text = self._run(words[2:])
            if re.search(words[1], text):
                return text
            if time.monotonic() > deadline:
                return f"{text}\n(never {words[1]!r})"
            time.sleep(0.1)

    def _run(self, words: Sequence[str]) -> str:
        if words[0] == "sleep":
            time.sleep(float(words[1]))
            return ""
        if words[0] == "type":
            place = words.index(":")
            command = [each for each in self.libvirt.command(*words[1:place]) if each != "--quiet"]
            return typed(command, words[place + 1 :])
        if words[0] == "map":
            return _content(run(["qemu-img", "map", "--output=json", *words[1:]]))
        if words[0] == "elf":
            return run(["readelf", "-hlnW", *words[1:]])
        if words[0] == "moved":
            described = run(self.libvirt.command("dumpxml", "vm", "--migratable"))
            self.libvirt.file("moved.xml", described.replace("top.qcow2", "there.qcow2"))
            return ""
        if words[0] == "begin":
            self._begun = self._pool.submit(run, self.libvirt.command(*words[1:]))
            return ""
        if words[0] == "ended":
            return "nothing was begun" if self._begun is None else self._begun.result()
        tool = f"qemu-{words[0]}"
        if words[0] == "there":
            return run(self._there.command(*words[1:]))
        return run([tool, *words[1:]] if tool in TOOLS else self.libvirt.command(*words))


def _events(watcher: Watcher) -> str:
    """What virsh has told of the domain.

    The agent, for which libvirt has a thread, and the firmware, which resets the machine once more, come last.
    """
    return "\n".join(sorted(watcher.events("vm"), key=lambda event: (event.startswith("agent"), event[:6] == "reboot")))


def _content(text: str) -> str:
    """What is where on a disk, of what `qemu-img map` prints, without the places in the image."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    pieces: list[dict[str, object]] = []
    for piece in found:
        piece.pop("offset", None)
        start, length = piece.pop("start"), piece.pop("length")
        if pieces and pieces[-1]["what"] == piece:
            pieces[-1]["end"] = start + length
        else:
            pieces.append({"start": start, "end": start + length, "what": piece})
    return "\n".join(json.dumps(piece) for piece in pieces)


def run(command: Sequence[str]) -> str:
    """What a program prints, and how it ends where that is not well."""
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
            check=False, errors="replace", env={"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return f"{error.stdout!r}\n(does not end)"
    return ended.stdout + (f"\n(status {ended.returncode})" if ended.returncode else "")


def typed(command: Sequence[str], dialogue: Sequence[str]) -> str:
    """What a program prints on a terminal on which somebody types: what he waits for and what he types, in turn.

    He waits as long as it takes, and after the last that he has typed for the program's end.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={"LC_ALL": "C", "TERM": "dumb", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip
    os.close(theirs)
    said, seen = "", 0
    steps = [each.encode().decode("unicode_escape") for each in dialogue]
    deadline = time.monotonic() + _PATIENCE
    try:
        while time.monotonic() < deadline:
            # Until the terminal is raw what is typed goes elsewhere.
            while steps and not termios.tcgetattr(ours)[3] & termios.ICANON:
                if (place := said.find(steps[0], seen)) < 0:
                    break
                seen = place + len(steps[0])
                os.write(ours, steps[1].encode())
                del steps[:2]
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    said += os.read(ours, 4096).decode(errors="replace")
                except OSError:
                    status = process.wait(10)
                    left = f"(never {steps[0]!r})" if steps else ""
                    return said.replace("\r", "") + left + (f"\n(status {status})" if status else "")
        return f"{said!r}\n(does not end)"
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def differences(group: Group, sides: Sequence[Side], *, all_rows: bool = False) -> Iterator[str]:
    """What is different in each row, as text; the sides are qmpd and QEMU.

    With `all_rows` what both say is printed, too.
    """
    with ThreadPoolExecutor(len(sides)) as pool:
        ours, real = pool.map(lambda side: side.play(group), sides)
    for line, mine, theirs in zip([*group.lines, "(events)"], ours, real, strict=True):
        if all_rows:
            print(f"{group.name}: {line}", *mine.splitlines(), sep="\n    ")
        if mine != theirs:
            compared = difflib.unified_diff(theirs.splitlines(), mine.splitlines(), "QEMU", "qmpd", "", "", lineterm="")
            yield f"{group.name}: {line}\n" + "\n".join(f"    {each}" for each in compared)


def lacking() -> str | None:
    """Why the two cannot be compared here; None where they can."""
    if RELEASE not in RELEASES:
        return f"no QEMU of {', '.join(RELEASES)}"
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return missing() or (f"not installed: {', '.join(absent)}" if absent else None)


def _side(folder: Path, name: str, programs: Sequence[str], stack: ExitStack, groups: Sequence[Group]) -> Side:
    """One of the two, with a second host where a group's domain moves."""
    here = stack.enter_context(Libvirt(folder / name, RELEASE, programs=programs))
    if not any(group.moves for group in groups):
        return Side(here)
    return Side(here, stack.enter_context(Libvirt(folder / f"{name}-there", RELEASE, programs=programs, host="there")))


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the groups that are named, all where none is; the status is 1 where something differs."""
    names: Mapping[str, Group] = {group.name: group for group in GROUPS}
    parser = argparse.ArgumentParser(prog="python -m tests.libvirt.beside", description=__doc__.splitlines()[0])
    parser.add_argument("group", nargs="*", help=f"one of {', '.join(names)}")
    parser.add_argument("--linux", metavar="FOLDER", type=Path, default=Path("/"), help="where Linux and busybox are")
    parser.add_argument("--all", action="store_true", help="print what both say, too")
    asked = parser.parse_args(arguments)
    if reason := lacking():
        print(f"cannot compare: {reason}", file=sys.stderr)
        return 2
    parts = linux_guest.parts(asked.linux)
    groups = [names[name] for name in asked.group] or list(names.values())
    for group in [group for group in groups if group.linux and parts is None]:
        print(f"{group.name} is left out: not installed: a kernel, busybox-static or qemu-guest-agent", file=sys.stderr)
        groups.remove(group)
    differing = rows = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as stack,
    ):
        kinds = {"qmpd": TOOLS, "real": (*TOOLS, PROGRAM)}
        sides = [_side(Path(folder), name, found, stack, groups) for name, found in kinds.items()]
        if parts is not None and any(group.linux for group in groups):
            for side in sides:
                linux_guest.make(parts, side.libvirt.folder / "guest")
        for group in groups:
            rows += len(group.lines)
            for text in differences(group, sides, all_rows=asked.all):
                differing += 1
                print(text, flush=True)
    print(f"{rows} rows in {len(groups)} groups, {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
