"""A private libvirtd, and virsh talking to it."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAMS = ("libvirtd", "virsh", "unshare")
DRIVER = "/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so"
DOMAINS = int(os.environ.get("QMPD_LIBVIRT_DOMAINS", "6"))
"""How many domains run at once in the test of many: few where everything is tested, 100 in `tests/libvirt/run`."""

# libvirt looks for this name on its path; the program itself goes by its own.
_EMULATOR = """\
#!/bin/sh
QMPD_RELEASE={release} QMPD_OPTIONS="$(cat {options})"
export QMPD_RELEASE QMPD_OPTIONS
exec {python} -c 'import sys; sys.path.insert(0, "{root}"); sys.argv[0] = "qmpd-system-x86_64"
from qmpd.emulator.program import main
sys.exit(main())' "$@"
"""

_DOMAIN = """\
<domain type='qemu'{attributes}>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>{head}
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type>{boot}</os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>{on_crash}</on_crash>
  <devices>{emulator}{devices}</devices>{tail}
</domain>
"""

EMULATOR = Path("/var/lib/libvirt/emulator")
"""What leads to a libvirtd's emulator as that libvirtd sees it."""

_EVENT = re.compile(r"event '(?P<kind>[^']*)' for domain '(?P<domain>[^']*)':?(?P<what>.*)")


def missing() -> str | None:
    """Why libvirt cannot be tested with here; None where it can."""
    if os.geteuid() != 0:
        return "not root"
    lacking = [program for program in PROGRAMS if shutil.which(program, path="/usr/sbin:/sbin:" + os.defpath) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    if not glob.glob(DRIVER):
        return "not installed: libvirt-daemon-driver-qemu"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        return "mount namespaces cannot be made"
    return None


def until(condition: Callable[[], bool], patience: float = 10.0) -> None:
    """Wait until something is so.

    :raise AssertionError: it is not in `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.05)


class Libvirt:
    """A running libvirtd; everything it keeps is in `folder`."""

    def __init__(self, folder: Path, release: str = "7.2", *, programs: Sequence[str] = (), host: str = "here") -> None:
        """Start it, on a host of this name.

        :param programs: those of QEMU's that it finds; where QEMU itself is among them it takes the place of qmpd.
        """
        self.folder = folder
        self.release = release
        self.emulator = folder / "bin/qemu-system-x86_64"
        self.emulator.parent.mkdir(parents=True)
        # Beside itself is where QEMU looks for its firmware and its modules.
        for place in ("share", "lib"):
            (folder / place).symlink_to(f"/usr/{place}")
        for program in programs:
            (folder / "bin" / program).symlink_to(shutil.which(program) or "/dev/null")
        if not self.emulator.is_symlink():
            values = {"release": release, "options": folder / "options", "python": sys.executable}
            self.emulator.write_text(_EMULATOR.format(root=Path(__file__).parents[2], **values))
            self.emulator.chmod(0o755)
        # Where it is in each of several namespaces, for a domain that moves from one to another.
        kept = folder / EMULATOR.relative_to("/")
        kept.parent.mkdir(parents=True)
        kept.symlink_to(self.emulator)
        self.set_options()
        script = Path(__file__).with_name("private-libvirtd")
        command: list[str | Path] = ["unshare", "--mount", "--uts", script, folder, host]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def set_options(self, options: str = "") -> None:
        """Let the domains that start from now on have these options of qmpd's, beside those of all tests."""
        self.file("options", f"-guest boot-time=50ms -control unix:{self.folder}/%n.control {options}")

    def __enter__(self) -> Self:
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while "library" not in self.virsh("version", "--daemon", check=False):
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = self.folder / "libvirtd.log"
                raise RuntimeError(f"libvirtd does not start: {log.read_text() if log.exists() else ''}")
            time.sleep(0.1)

    def restart(self) -> None:
        """Start the daemon anew; the domains run on."""
        assert self._process.stdin is not None
        number = self.folder / "libvirtd.pid"
        before = number.read_text()
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        until(lambda: number.exists() and number.read_text() not in ("", before))
        self._wait()

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def uri(self) -> str:
        """Where virsh finds it."""
        return f"qemu+unix:///system?socket={self.folder}/run/libvirt/libvirt-sock"

    def command(self, *words: str) -> list[str]:
        """A command line of virsh."""
        return ["virsh", "--quiet", "--connect", self.uri, *words]

    def virsh(self, *words: str, check: bool = True) -> str:
        """What virsh prints, errors included; AssertionError where it fails."""
        environment = {**os.environ, "LC_ALL": "C"}
        ended = subprocess.run(
            self.command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
            env=environment,
        )
        assert not check or ended.returncode == 0, f"virsh {' '.join(words)}: {ended.stdout}{self.log()}"
        return ended.stdout.strip()

    def log(self) -> str:
        """The logs of the domains, for messages."""
        files = sorted((self.folder / "var/log/libvirt/qemu").glob("*.log"))
        return "".join(f"\n== {file.name}\n{file.read_text()[-1500:]}" for file in files)

    def domain(
        self,
        name: str,
        devices: str = "",
        machine: str = "pc",
        *,
        head: str = "",
        tail: str = "",
        attributes: str = "",
        on_crash: str = "destroy",
        emulator: bool = True,
        memory: int = 32,
        boot: str = "",
    ) -> str:
        """The path of a domain's description; without `emulator` libvirt finds one itself; `memory` is in MiB."""
        text = _DOMAIN.format(
            name=name,
            machine=machine,
            emulator=f"<emulator>{EMULATOR}</emulator>" if emulator else "",
            devices=devices,
            head=head,
            tail=tail,
            attributes=attributes,
            on_crash=on_crash,
            memory=memory,
            boot=boot,
        )
        return self.file(f"{name}.xml", text)

    def file(self, name: str, text: str = "", *, size: int = 0) -> str:
        """The path of a file with this text, or of as many zeros."""
        path = self.folder / name
        path.write_bytes(bytes(size) if size else text.encode())
        return str(path)

    def guest(self, name: str, command: str) -> dict[str, object]:
        """Let the guest of a domain do something, or ask about it (a command of `qmpd control`)."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{self.folder}/{name}.control")
            with client.makefile("rw") as file:
                file.readline()
                for each in ("qmp_capabilities", command):
                    file.write(json.dumps({"execute": each}) + "\n")
                    file.flush()
                    reply = json.loads(file.readline())
                    assert "return" in reply, reply
        answer: dict[str, object] = reply["return"]
        return answer

    def boot(self, name: str) -> None:
        """Wait until the guest's operating system runs, which heeds the power button."""
        until(lambda: self.guest(name, "query-guest")["phase"] == "running")

    def states(self) -> dict[str, str]:
        """The domains and their states, as `virsh list --all` shows them."""
        lines = [line.split(None, 2) for line in self.virsh("list", "--all").splitlines()]
        return {name: state.strip() for _, name, state in lines}


class Watcher:
    """`virsh event --all --loop`, and what it has printed."""

    def __init__(self, libvirt: Libvirt) -> None:
        number = len(list(libvirt.folder.glob("events*")))
        self._file = open(libvirt.folder / f"events{number}", "w", encoding="utf-8")  # noqa: SIM115 - see __exit__
        # virsh writes in large pieces to what is no terminal.
        command = ["timeout", "120", "stdbuf", "-oL", *libvirt.command("event", "--all", "--loop")]
        self._process = subprocess.Popen(command, stdout=self._file, stderr=subprocess.STDOUT)

    def __enter__(self) -> Self:
        time.sleep(0.5)  # nothing tells when it listens
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._file.close()

    def events(self, domain: str) -> list[str]:
        """What it has told of a domain, as `KIND: WHAT`."""
        text = Path(self._file.name).read_text(encoding="utf-8").replace("\n\t", " ")
        found = [match for line in text.splitlines() if (match := _EVENT.fullmatch(line))]
        return [f"{match['kind']}: {match['what'].strip()}" for match in found if match["domain"] == domain]

    def wait(self, domain: str, event: str) -> None:
        """Wait until it has told of an event that begins like this.

        :raise AssertionError: it does not.
        """
        try:
            until(lambda: any(each.startswith(event) for each in self.events(domain)))
        except AssertionError:
            raise AssertionError(f"no event {event}: {self.events(domain)}") from None
