"""A private libvirtd, and virsh talking to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

PROGRAMS = ("libvirtd", "virsh", "unshare")
DRIVER = "/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so"

_EMULATOR = """\
#!{shell}
QMPD_RELEASE={release} QMPD_OPTIONS="{options}"
export QMPD_RELEASE QMPD_OPTIONS
exec {python} -c 'import sys; sys.path.insert(0, "{root}"); sys.argv[0] = "{name}"
from qmpd.cli.emulator import main
sys.exit(main())' "$@"
"""

_DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>32</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices><emulator>{emulator}</emulator>{devices}</devices>
</domain>
"""


def missing() -> str | None:
    """Why libvirt cannot be tested with here; None where it can."""
    import glob

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


class Libvirt:
    """A running libvirtd; everything it keeps is in `folder`."""

    def __init__(self, folder: Path, release: str = "7.2", options: str = "-guest boot-time=100ms") -> None:
        self.folder = folder
        self.release = release
        self.emulator = folder / "qmpd-system-x86_64"
        self.emulator.write_text(
            _EMULATOR.format(
                shell="/bin/sh",
                release=release,
                options=options,
                python=sys.executable,
                root=Path(__file__).parents[2],
                name=self.emulator,
            )
        )
        self.emulator.chmod(0o755)
        script = Path(__file__).with_name("private-libvirtd")
        self._process = subprocess.Popen(["unshare", "--mount", script, folder], stdin=subprocess.PIPE)

    def __enter__(self) -> Self:
        deadline = time.monotonic() + 60
        while "library" not in self.virsh("version", check=False):
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = self.folder / "libvirtd.log"
                raise RuntimeError(f"libvirtd does not start: {log.read_text() if log.exists() else ''}")
            time.sleep(0.1)
        return self

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

    def domain(self, name: str, devices: str = "", machine: str = "pc") -> str:
        """The path of a domain's description."""
        path = self.folder / f"{name}.xml"
        path.write_text(_DOMAIN.format(name=name, machine=machine, emulator=self.emulator, devices=devices))
        return str(path)

    def file(self, name: str, text: str) -> str:
        """The path of a file with this text."""
        path = self.folder / name
        path.write_text(text)
        return str(path)
