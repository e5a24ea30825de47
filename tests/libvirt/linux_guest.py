"""A small Linux with QEMU's own guest agent in it, for the rows that ask a guest.

It is made from what Debian's packages `linux-image-cloud-amd64`, `busybox-static` and `qemu-guest-agent` install; the
first two may be unpacked in a folder.  Nothing else is needed, and nothing is kept.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

AGENT = "/usr/sbin/qemu-ga"
PORT = "org.qemu.guest_agent.0"
_MODULES = (
    "virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk",
    "virtio_console", "failover", "net_failover", "virtio_net", "virtio_balloon", "button",
)  # fmt: skip
_FIRST = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /$module.ko; done
while ! [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /sbin/init
"""
_INIT = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs run /run
hostname -F /etc/hostname
ip link set lo up
ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0
for port in /sys/class/virtio-ports/*; do
    if [ "$(cat $port/name)" = {port} ]; then qemu-ga -d -m virtio-serial -p /dev/${{port##*/}} -t /run; fi
done
[ -c /dev/hvc0 ] && while true; do getty -L 115200 hvc0 vt100; done &
while true; do getty -L 115200 ttyS0 vt100; done
"""
_SHUTDOWN = """\
#!/bin/sh
case " $* " in
*" -r "*) how=reboot ;;
*" -H "*) how=halt ;;
*) how=poweroff ;;
esac
(sleep 0.3; sync; $how -f) &
"""
_PASSWORD = """\
#!/bin/sh
IFS=: read -r user password
grep -q "^$user:" /etc/passwd
"""


class Parts(NamedTuple):
    """What a guest is made from."""

    kernel: Path
    modules: Path
    busybox: Path


def parts(root: Path) -> Parts | None:
    """What is in a folder; None where something is missing."""
    kernels = sorted(root.glob("boot/vmlinuz-*"))
    busybox = root / "bin/busybox"
    if not kernels or not busybox.is_file() or not Path(AGENT).is_file():
        return None
    modules = root / "lib/modules" / kernels[-1].name.removeprefix("vmlinuz-")
    return Parts(kernels[-1], modules, busybox) if modules.is_dir() else None


def _member(name: str, mode: int, content: bytes, number: int) -> bytes:
    """A member of an archive in cpio's "newc" format."""
    path = name.encode() + b"\0"
    fields = [number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0]
    head = b"070701" + b"".join(b"%08X" % each for each in fields) + path
    return head.ljust((len(head) + 3) // 4 * 4, b"\0") + content.ljust((len(content) + 3) // 4 * 4, b"\0")


def _archive(files: Mapping[str, bytes], folders: tuple[str, ...]) -> bytes:
    members = [(folder, 0o040755, b"") for folder in folders]
    members += [(name, 0o100755, content) for name, content in files.items()]
    parts = [_member(*member, number) for number, member in enumerate([*members, ("TRAILER!!!", 0, b"")], 1)]
    return b"".join(parts)


def _libraries(program: str) -> Iterator[str]:
    """The libraries that a program takes."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    yield from re.findall(r"(/\S+) \(0x", said)


def _fill(root: Path, busybox: Path) -> None:
    """The guest's file system."""
    for folder in ("bin", "sbin", "etc", "dev", "proc", "sys", "run", "root", "tmp", "usr/sbin", "usr/bin", "var/run"):
        (root / folder).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    (root / "sbin/hwclock").symlink_to("/bin/busybox")
    for path in [AGENT, *_libraries(AGENT)]:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copy("/etc/os-release", root / "etc/os-release")
    texts = {
        "sbin/init": _INIT.format(port=PORT),
        "sbin/shutdown": _SHUTDOWN,
        "sbin/chpasswd": _PASSWORD,
        "etc/hostname": "localhost\n",
        "etc/issue": "",
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
        "etc/group": "root:x:0:\n",
        "etc/shadow": "root::19000:0:99999:7:::\n",
    }
    for name, text in texts.items():
        (root / name).write_text(text)
        (root / name).chmod(0o755)


def make(found: Parts, folder: Path) -> None:
    """Put `kernel`, `initrd` and the disk `guest.img` into a folder."""
    folder.mkdir()
    shutil.copy(found.kernel, folder / "kernel")
    modules = {f"{path.stem}.ko": path.read_bytes() for path in found.modules.rglob("*.ko") if path.stem in _MODULES}
    first = _FIRST.format(modules=" ".join(name for name in _MODULES if f"{name}.ko" in modules))
    files = {"bin/busybox": found.busybox.read_bytes(), "init": first.encode(), **modules}
    (folder / "initrd").write_bytes(_archive(files, ("bin", "dev", "root")))
    _fill(folder / "root", found.busybox)
    paths = str(folder / "root"), str(folder / "guest.img")
    command = ["mke2fs", "-q", "-t", "ext4", "-d", *paths, "64M"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shutil.rmtree(folder / "root")
