"""The rows that are played with qmpd and with QEMU side by side: groups of commands on one domain.

A line is a command of virsh, or `img ...` for `qemu-img`, `map ...` for `qemu-img map` without the places in the image,
`io ...` for `qemu-io`, `elf ...` for `readelf`, `sleep SECONDS`, or `until PATTERN` and a command that is asked again
until its text has that.  `begin` and a command of virsh goes on beside the rows that follow, until `ended` tells
what it has printed.  `moved` describes the domain in `@/moved.xml` with its first disk in another image, `there.qcow2`.
`type COMMAND... : TEXT TYPED TEXT TYPED ...` has somebody at a terminal wait for each text and type what follows it;
`@` is the folder of the side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Group:
    """Rows that share a domain: how it is made, and what is asked."""

    name: str
    lines: Sequence[str]
    devices: str = ""
    images: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    machine: str = "pc"
    linux: bool = False
    """Whether a Linux runs, with the agent of QEMU's: `@/guest` has its `kernel`, `initrd` and `guest.img`."""
    script: str = ""
    """What qmpd's guest is to print and to answer, as the Linux does (docs/how-to/guests.md)."""
    moves: bool = False
    """Whether the domain moves to another host: `there` is before commands for that, and `@other` is where it is."""
    empty: bool = False
    """Whether no operating system is there, on which it depends whether the CPUs are 64-bit ones."""
    state: bool = False
    """Whether images hold the machine's state, whose size is the memory's that is not zero."""


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines() if line.strip()]


def _disk(name: str, target: str, kind: str = "qcow2", extra: str = "") -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{kind}'/><source file='@/{name}'/>"
        f"<target dev='{target}' bus='virtio'/>{extra}</disk>"
    )


_IMAGES = _lines("""
img create -f qcow2 @/base.qcow2 8M
io -c 'write -P 7 1M 1M' @/base.qcow2
img create -f qcow2 -b @/base.qcow2 -F qcow2 @/top.qcow2
io -c 'write -P 8 0 512k' @/top.qcow2
img create -f qcow2 @/second.qcow2 4M
""")
_DEVICES = _disk("top.qcow2", "vda") + _disk("second.qcow2", "vdb")


def _found(*names: str, running: bool = False) -> str:
    """What qemu-img finds in images; while the domain runs it does not take their locks."""
    share = "-U " if running else ""
    lines = []
    for name in names:
        lines += [f"img info {share}--output=json @/{name}", f"map {share}@/{name}"]
        lines += [] if running else [f"img check @/{name}"]
    return "\n".join(lines)


def _guest(command: str, number: int = 0) -> str:
    """The guest reads or writes a disk, in the words of qemu-io."""
    device = f"/machine/peripheral/virtio-disk{number}/virtio-backend"
    return f"qemu-monitor-command vm --hmp 'qemu-io -d {device} \"{command}\"'"


def _overlay(name: str, option: str) -> str:
    """The first disk alone goes on in another image."""
    disks = f"--diskspec vda,file=@/{name}.qcow2 --diskspec vdb,snapshot=no"
    return f"snapshot-create-as vm {name} --disk-only {option} {disks}"


def _with_memory(name: str) -> str:
    """The memory goes into a file, the first disk on in another image."""
    disks = f"--diskspec vda,file=@/{name}.qcow2 --diskspec vdb,snapshot=no"
    return f"snapshot-create-as vm {name} --memspec @/{name}.memory {disks}"


def _disks(name: str, text: str, **more: object) -> Group:
    return Group(name, _lines(text), _DEVICES, _IMAGES, **more)  # type: ignore[arg-type]


_MIGRATE = "migrate vm @other --live --migrateuri tcp:127.0.0.1"
_MIGRATE_UNIX = "migrate vm @other --live --migrateuri unix://@/migrate.socket --disks-uri unix://@/disks.socket"


_BACKUP_PUSH = """\
<domainbackup mode='push'><disks>
<disk name='vda' type='file'><target file='@/{0}'/><driver type='qcow2'/></disk><disk name='vdb' backup='no'/>
</disks></domainbackup>
"""
_INCREMENTAL_PUSH = _BACKUP_PUSH.replace("<disks>", "<incremental>check1</incremental><disks>")
_BACKUP_PULL = """\
<domainbackup mode='pull'><server transport='unix' socket='@/{0}.socket'/><disks>
<disk name='vda' type='file' exportname='vda'{1}><scratch file='@/{0}.qcow2'/></disk><disk name='vdb' backup='no'/>
</disks></domainbackup>
"""
_INCREMENTAL_PULL = _BACKUP_PULL.replace("<disks>", "<incremental>check1</incremental><disks>")
_NBD = "driver=nbd,export=vda,server.type=unix,server.path=@/pull2.socket"
_CHECKPOINT = """\
<domaincheckpoint><name>{0}</name><disks>
<disk name='vda' checkpoint='bitmap'/><disk name='vdb' checkpoint='no'/>
</disks></domaincheckpoint>
"""
_BACKUPS = {
    "push.xml": _BACKUP_PUSH.format("push.qcow2"),
    "push2.xml": _INCREMENTAL_PUSH.format("push2.qcow2"),
    "pull.xml": _BACKUP_PULL.format("pull", ""),
    "pull2.xml": _INCREMENTAL_PULL.format("pull2", " exportbitmap='dirty'"),
    "check1.xml": _CHECKPOINT.format("check1"),
    "check2.xml": _CHECKPOINT.format("check2"),
    "check3.xml": _CHECKPOINT.format("check3"),
}

_CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
_ANSWERS = "return qemu-agent-command vm '{\"execute\": \"guest-ping\"}'"
_PERIPHERY = """\
<interface type='user'><mac address='52:54:00:11:22:33'/><model type='virtio'/></interface>
<serial type='pty'/><console type='pty'/>
"""


_PROMPT = r"~ # \u001b[6n"
_BUSYBOX = (
    r"\r\n\r\nBusyBox VERSION built-in shell (ash)\r\nEnter 'help' for a list of built-in commands.\r\n\r\n" + _PROMPT
)
_SHELL = rf"""
[console]
echo = ["", "charconsole1"]

[[on]]
event = "running"
say = "\r\nlocalhost login: "

[[on]]
event = "running"
chardev = "charconsole1"
say = "\r\nlocalhost login: "

[[expect]]
match = "root\\r"
say = "login[N]: root login on 'ttyS0'\r\n{_BUSYBOX}"

[[expect]]
chardev = "charconsole1"
match = "root\\r"
say = "{_BUSYBOX}"

[[expect]]
match = "id -u\\r"
say = "0\r\n{_PROMPT}"

[[expect]]
match = "exit\\r"
say = "\r\nlocalhost login: "

[[expect]]
match = "poweroff -f\\r"
say = "[ TIME] reboot: Power down\r\n"
do = "shutdown"

# The shell, in which somebody has been left, and before and after it the login.
[[expect]]
match = "\\r"
once = true
say = "localhost login: "

[[expect]]
match = "\\r"
once = true
say = "{_PROMPT}"

[[expect]]
match = "\\r"
say = "localhost login: "

[[expect]]
chardev = "charconsole1"
match = "\\r"
say = "localhost login: "
"""


def _linux(name: str, text: str, **more: object) -> Group:
    """Rows for a guest whose agent answers."""
    devices = str(more.pop("devices", ""))
    return Group(
        name,
        ["start vm", f"until {_ANSWERS}", *_lines(text), "destroy vm"],
        _disk("guest.qcow2", "vda") + _CHANNEL + _PERIPHERY + devices,
        ("img convert -O qcow2 @/guest/guest.img @/guest.qcow2",),
        linux=True,
        **more,  # type: ignore[arg-type]
    )


QUICK = _disks(
    "quick",
    f"""
    start vm
    {_guest("write -P 1 0 64k")}
    snapshot-create-as vm one
    snapshot-list vm
    {_overlay("two", "--no-metadata")}
    {_guest("write -P 2 2M 64k")}
    blockresize vm vda 16M
    blockcommit vm vda --active --wait --pivot
    blockcommit vm nothing
    domblklist vm --details
    domblkthreshold vm vda 100000
    domblkinfo vm vda
    destroy vm
    {_found("base.qcow2", "two.qcow2")}
    """,
    state=True,
)
"""What the ordinary tests play."""

GROUPS: Sequence[Group] = (
    QUICK,
    _disks(
        "internal-snapshots",
        f"""
        start vm
        {_guest("write -P 1 0 64k")}
        snapshot-create-as vm one --description 'the first'
        {_guest("write -P 2 64k 64k")}
        snapshot-create-as vm two
        snapshot-list vm --tree
        snapshot-list vm
        snapshot-info vm one
        snapshot-current vm --name
        snapshot-parent vm two
        snapshot-dumpxml vm two
        qemu-monitor-command vm --hmp 'info snapshots'
        snapshot-create-as vm two
        img snapshot -U -l @/top.qcow2
        img snapshot -U -l @/second.qcow2
        snapshot-revert vm one
        domstate vm --reason
        snapshot-current vm --name
        {_guest("read -P 1 0 64k")}
        {_guest("read -P 8 64k 64k")}
        suspend vm
        snapshot-create-as vm three
        resume vm
        snapshot-revert vm three
        domstate vm --reason
        snapshot-revert vm two --running
        domstate vm --reason
        snapshot-delete vm two
        snapshot-list vm --tree
        snapshot-revert vm nothing
        snapshot-delete vm nothing
        destroy vm
        img snapshot -l @/top.qcow2
        snapshot-revert vm one
        domstate vm --reason
        snapshot-delete vm one --children
        snapshot-list vm
        destroy vm
        {_found("top.qcow2", "second.qcow2")}
        """,
        state=True,
    ),
    _disks(
        "offline-snapshots",
        f"""
        snapshot-create-as vm one
        snapshot-create-as vm two --disk-only --diskspec vdb,snapshot=no
        snapshot-list vm --tree
        domblklist vm
        snapshot-delete vm two --metadata
        snapshot-list vm
        start vm
        domblklist vm
        {_guest("write -P 1 0 64k")}
        destroy vm
        {_found("top.two", "top.qcow2", "second.qcow2")}
        """,
    ),
    _disks(
        "external-snapshots",
        f"""
        start vm --paused
        snapshot-create-as vm one --disk-only
        {_guest("write -P 1 0 64k")}
        domblklist vm --details
        snapshot-list vm --tree
        snapshot-create-as vm two --disk-only --atomic --diskspec vda,file=@/two.qcow2 --diskspec vdb,snapshot=no
        {_guest("write -P 2 64k 64k")}
        domblklist vm
        snapshot-info vm two
        snapshot-create-as vm three --disk-only --diskspec vda,file=@/two.qcow2 --diskspec vdb,snapshot=no
        snapshot-create-as vm four --disk-only --diskspec vda,file=@/no/where.qcow2 --diskspec vdb,snapshot=no
        img create -f qcow2 -b @/two.qcow2 -F qcow2 -u @/five.qcow2 8M
        {_overlay("five", "--reuse-external")}
        {_guest("read -P 2 64k 64k")}
        snapshot-list vm --tree
        snapshot-delete vm two
        snapshot-revert vm one
        snapshot-delete vm five --metadata
        qemu-monitor-command vm --hmp 'info block'
        domblkinfo vm vda
        domstats vm --block --backing
        {_found("five.qcow2", "two.qcow2", "top.one", "second.one", running=True)}
        destroy vm
        {_found("five.qcow2", "two.qcow2", "top.one", "top.qcow2", "second.one")}
        """,
    ),
    _disks(
        "blockcopy",
        f"""
        start vm
        blockcopy vm vda @/copy.qcow2 --wait --verbose --pivot
        blockcopy vm vda @/copy.qcow2 --wait --verbose --pivot --transient-job
        domblklist vm
        {_guest("write -P 1 0 64k")}
        {_guest("read -P 7 1M 1M")}
        blockcopy vm vdb @/copy2.qcow2 --wait --verbose --finish --transient-job --format qcow2
        domblklist vm
        blockcopy vm vdb @/copy3.raw --transient-job --format raw
        until 100 blockjob vm vdb
        blockjob vm vdb --info
        blockjob vm vdb --raw
        blockjob vm vdb 5
        blockjob vm vdb --info
        {_guest("write -P 3 1M 1M", 1)}
        blockcopy vm vdb @/copy4.raw --transient-job
        blockjob vm vdb --pivot
        blockjob vm vdb
        domblklist vm --details
        blockcopy vm vda @/top.qcow2 --reuse-external --shallow --wait --pivot --transient-job
        blockcopy vm vda @/no/where.qcow2 --transient-job
        blockcopy vm vda @/small.qcow2 --transient-job --granularity 5
        blockcopy vm vda @/copy5.qcow2 --transient-job --granularity 65536 --buf-size 1048576 --wait
        blockjob vm vda --abort
        blockjob vm vda --abort
        blockjob vm vda
        domblklist vm
        dumpxml vm --xpath //disk
        {_found("copy.qcow2", running=True)}
        destroy vm
        {_found("copy.qcow2", "copy2.qcow2", "top.qcow2", "copy5.qcow2")}
        map -f raw @/copy3.raw
        img compare @/copy.qcow2 @/top.qcow2
        """,
    ),
    _disks(
        "blockcommit",
        f"""
        start vm
        {_overlay("one", "--no-metadata")}
        {_guest("write -P 1 0 64k")}
        {_overlay("two", "--no-metadata")}
        {_guest("write -P 2 2M 64k")}
        blockcommit vm vda --verbose --wait --top @/one.qcow2 --base @/top.qcow2
        {_found("two.qcow2", "top.qcow2", running=True)}
        domblklist vm
        blockcommit vm vda --wait
        blockcommit vm vda --active --verbose
        until 100 blockjob vm vda
        blockjob vm vda --raw
        {_guest("write -P 3 3M 64k")}
        blockjob vm vda --pivot
        domblklist vm
        {_overlay("three", "--no-metadata")}
        {_guest("write -P 4 4M 64k")}
        blockcommit vm vda --active --wait --verbose --shallow --pivot --delete
        domblklist vm
        {_overlay("four", "--no-metadata")}
        {_guest("write -P 5 5M 64k")}
        blockcommit vm vda --active --wait --verbose --pivot
        blockcommit vm vdb --active --wait
        blockcommit vm vda --base @/nothing --active
        blockcommit vm nothing --active
        dumpxml vm --xpath //disk
        destroy vm
        {_found("base.qcow2", "top.qcow2", "one.qcow2", "two.qcow2")}
        """,
    ),
    _disks(
        "blockpull",
        f"""
        start vm
        {_overlay("one", "--no-metadata")}
        {_guest("write -P 1 0 64k")}
        blockpull vm vda --wait --verbose --base @/base.qcow2
        {_guest("flush")}
        {_found("one.qcow2", running=True)}
        blockpull vm vda --bandwidth 100 --wait --verbose
        {_guest("read -P 7 1M 1M")}
        domblklist vm
        dumpxml vm --xpath //disk
        blockpull vm vdb --wait --verbose
        blockpull vm vda --base @/nothing
        blockpull vm nothing
        blockjob vm vda
        destroy vm
        {_found("one.qcow2", "top.qcow2", "base.qcow2")}
        """,
    ),
    _disks(
        "blockresize",
        f"""
        blockresize vm vda 16M
        start vm
        blockresize vm vda 16M
        domblkinfo vm vda
        blockresize vm vda 16777217B
        domblkinfo vm vda
        blockresize vm vda 6M
        domblkinfo vm vda
        blockresize vm @/second.qcow2 10240
        domblkinfo vm vdb
        domblkinfo vm --all
        blockresize vm vda 0
        blockresize vm nothing 1G
        blockresize vm vda --capacity
        {_guest("write -P 1 9M 64k", 1)}
        {_found("top.qcow2", running=True)}
        destroy vm
        {_found("top.qcow2", "second.qcow2")}
        """,
    ),
    _disks(
        "checkpoints",
        f"""
        checkpoint-create vm @/check1.xml
        start vm
        checkpoint-create vm @/check1.xml
        {_guest("write -P 1 0 64k")}
        checkpoint-create vm @/check2.xml
        {_guest("write -P 2 1M 128k")}
        checkpoint-create vm @/check3.xml
        checkpoint-create-as vm check3
        checkpoint-list vm --tree
        checkpoint-list vm
        checkpoint-info vm check2
        checkpoint-parent vm check3
        checkpoint-dumpxml vm check1 --size --no-domain
        checkpoint-dumpxml vm check3 --size --no-domain
        checkpoint-delete vm check2
        checkpoint-list vm --tree
        checkpoint-dumpxml vm check1 --size --no-domain
        snapshot-create-as vm one --disk-only
        checkpoint-delete vm check1
        checkpoint-list vm
        destroy vm
        img info --output=json @/top.qcow2
        img check @/top.qcow2
        start vm
        checkpoint-delete vm check3
        checkpoint-list vm
        destroy vm
        img info --output=json @/top.qcow2
        """,
        files=_BACKUPS,
    ),
    _disks(
        "backup-push",
        f"""
        start vm
        backup-begin vm @/push.xml @/check1.xml
        until Completed domjobinfo vm --completed --anystats
        backup-dumpxml vm
        checkpoint-list vm
        {_guest("write -P 1 0 64k")}
        {_guest("write -P 2 3M 64k")}
        backup-begin vm @/push2.xml @/check2.xml
        until Completed domjobinfo vm --completed --anystats
        checkpoint-list vm --tree
        backup-begin vm @/push2.xml
        domjobinfo vm
        domjobabort vm
        domblklist vm
        {_found("push.qcow2", "push2.qcow2", running=True)}
        destroy vm
        {_found("push.qcow2", "push2.qcow2", "top.qcow2")}
        img rebase -u -b @/push.qcow2 -F qcow2 @/push2.qcow2
        img compare @/push2.qcow2 @/top.qcow2
        """,
        files=_BACKUPS,
    ),
    _disks(
        "backup-pull",
        f"""
        start vm
        backup-begin vm @/pull.xml @/check1.xml
        backup-dumpxml vm
        domjobinfo vm
        img info nbd+unix:///vda?socket=@/pull.socket
        {_guest("write -P 1 0 64k")}
        img convert -f raw -O qcow2 nbd+unix:///vda?socket=@/pull.socket @/full.qcow2
        blockcopy vm vda @/no.qcow2 --transient-job
        domjobabort vm
        domjobinfo vm --completed --anystats
        {_guest("write -P 2 3M 64k")}
        backup-begin vm @/pull2.xml @/check2.xml
        backup-dumpxml vm
        map --image-opts {_NBD},x-dirty-bitmap=qemu:dirty-bitmap:dirty
        map --image-opts {_NBD}
        qemu-monitor-command vm --pretty '{{"execute": "query-block-exports"}}'
        domjobabort vm
        checkpoint-list vm --tree
        img info nbd+unix:///vda?socket=@/pull2.socket
        destroy vm
        {_found("full.qcow2", "top.qcow2")}
        """,
        files=_BACKUPS,
    ),
    _disks(
        "thresholds",
        f"""
        start vm --paused
        domblkthreshold vm vda 100000
        domblkthreshold vm nothing 100000
        domblkthreshold vm vda[1] 400000
        domstats vm --block
        qemu-monitor-command vm --pretty '{{"execute": "query-named-block-nodes"}}'
        {_guest("write -P 1 4M 64k")}
        domstats vm --block
        domblkthreshold vm vda 0
        domstats vm --block
        domblkerror vm
        domblkstat vm vda --human
        blkdeviotune vm vda --total-bytes-sec 1000000 --total-iops-sec 50
        blkdeviotune vm vda
        blkdeviotune vm vda --read-bytes-sec 1 --total-bytes-sec 2
        domblkstat vm vda
        destroy vm
        """,
    ),
    _linux(
        "agent",
        """
        until fe80 domifaddr vm --source agent
        guestinfo vm
        guestinfo vm --user
        guestinfo vm --os
        guestinfo vm --timezone
        guestinfo vm --hostname
        guestinfo vm --filesystem
        guestinfo vm --disk
        guestinfo vm --interface
        guestinfo vm --nothing
        domifaddr vm --source agent
        domifaddr vm --source agent --full
        domifaddr vm --source agent --interface eth0
        domifaddr vm --source agent --interface nothing
        domifaddr vm
        domhostname vm --source agent
        domhostname vm
        domfsinfo vm
        domfsfreeze vm
        domfsfreeze vm
        guestinfo vm --hostname
        qemu-agent-command vm '{"execute": "guest-fsfreeze-status"}'
        qemu-agent-command vm '{"execute": "guest-exec", "arguments": {"path": "/bin/true"}}'
        domfsthaw vm
        domfsthaw vm
        domfsfreeze vm --mountpoint /
        domfsthaw vm --mountpoint /
        domfsthaw vm
        domfsfreeze vm --mountpoint /nowhere
        domfsthaw vm
        domfstrim vm
        domtime vm
        domtime vm --pretty
        domtime vm --time 1700000000
        domtime vm
        domtime vm --now
        domtime vm --sync
        domtime vm --time 0
        domtime vm --time 3155759999
        domtime vm --time 3155760000
        domtime vm --time 1700000000
        set-user-password vm root secret
        set-user-password vm nobody secret
        set-user-password vm root secret --encrypted
        guestvcpus vm
        guestvcpus vm --cpulist 1 --disable
        guestvcpus vm
        guestvcpus vm --cpulist 1 --enable
        guestvcpus vm --cpulist 0 --disable
        guestvcpus vm --cpulist 7 --disable
        setvcpus vm 1 --guest
        vcpucount vm --guest
        setvcpus vm 2 --guest
        setvcpus vm 3 --guest
        vcpucount vm
        qemu-agent-command vm '{"execute": "guest-info"}'
        qemu-agent-command vm --pretty '{"execute": "guest-get-host-name"}'
        qemu-agent-command vm '{"execute": "guest-nothing"}'
        qemu-agent-command vm '{"execute": "guest-set-vcpus"}'
        qemu-agent-command vm 'no JSON'
        qemu-agent-command vm --timeout 1 '{"execute": "guest-ping"}'
        qemu-agent-command vm --async '{"execute": "guest-ping"}'
        guest-agent-timeout vm --timeout 5
        guest-agent-timeout vm --timeout -5
        get-user-sshkeys vm root
        set-user-sshkeys vm root --file @/keys
        get-user-sshkeys vm root
        set-user-sshkeys vm root --file @/keys --remove
        get-user-sshkeys vm root
        get-user-sshkeys vm nobody
        dominfo vm
        dommemstat vm
        dumpxml vm --xpath //channel
        suspend vm
        domhostname vm --source agent
        resume vm
        """,
        files={"keys": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHrGzYQ5 ann@host\n"},
    ),
    _linux(
        "agent-snapshots",
        """
        snapshot-create-as vm one --disk-only --quiesce
        qemu-agent-command vm '{"execute": "guest-fsfreeze-status"}'
        domblklist vm
        snapshot-create-as vm two --quiesce
        domfsfreeze vm
        snapshot-create-as vm three --disk-only --quiesce
        domfsthaw vm
        snapshot-create-as vm four --disk-only --quiesce
        snapshot-list vm --tree
        """,
    ),
    _linux(
        "agent-power",
        f"""
        sleep 1.2
        reboot vm --mode agent
        sleep 1.2
        domstate vm --reason
        until {_ANSWERS}
        sleep 1.2
        shutdown vm --mode agent
        until 'shut off' domstate vm --reason
        domhostname vm --source agent
        shutdown vm --mode agent
        start vm
        dumpxml vm --xpath //channel/target
        until {_ANSWERS}
        shutdown vm --mode guest-agent
        sleep 1.2
        shutdown vm --mode agent,acpi
        until 'shut off' domstate vm --reason
        start vm
        until {_ANSWERS}
        sleep 1.2
        dompmsuspend vm mem
        until pmsuspended domstate vm --reason
        dompmwakeup vm
        until running domstate vm --reason
        until {_ANSWERS}
        sleep 1.2
        reset vm
        sleep 1.2
        domhostname vm --source agent
        until {_ANSWERS}
        """,
    ),
    Group(
        "no-agent",
        _lines("""
        start vm
        dumpxml vm --xpath //channel/target
        guestinfo vm
        domhostname vm --source agent
        domfsfreeze vm
        domtime vm
        shutdown vm --mode agent
        reboot vm --mode agent
        snapshot-create-as vm one --disk-only --quiesce
        qemu-agent-command vm '{"execute": "guest-ping"}'
        destroy vm
        """),
        _CHANNEL + _disk("second.qcow2", "vdb"),
        ("img create -f qcow2 @/second.qcow2 4M",),
    ),
    _linux(
        "console",
        r"""
        type console vm : 'Escape character' '\r' 'login: ' 'root\r' '~ # \x1b[6n' 'id -u\r' '0\r\n~ # \x1b[6n' '\x1d'
        type console vm --devname serial0 : 'Escape character' '\x1d'
        type console vm --devname console1 : 'Escape character' '\r' 'login: ' 'root\r' '~ # \x1b[6n' '\x1d'
        type console vm --devname nothing :
        type console vm --force --safe : 'Escape character' '\x1d'
        console vm
        ttyconsole vm
        suspend vm
        type console vm : 'Escape character' '\x1d'
        resume vm
        type console vm : 'Escape character' '\r' '~ # \x1b[6n' 'exit\r' 'login: ' '\x1d'
        type console vm : 'Escape character' '\r' 'login: ' 'root\r' '~ # \x1b[6n' 'poweroff -f\r'
        until 'shut off' domstate vm --reason
        type console vm :
        """,
        devices="<console type='pty'><target type='virtio'/></console>",
        script=_SHELL,
    ),
    _disks(
        "saving",
        f"""
        start vm
        {_guest("write -P 1 0 64k")}
        save vm @/vm.save
        domstate vm --reason
        save-image-dumpxml @/vm.save --xpath //disk
        restore @/vm.save
        domstate vm --reason
        {_guest("read -P 1 0 64k")}
        {_guest("write -P 5 3M 64k")}
        snapshot-create-as vm one --disk-only --no-metadata
        {_guest("write -P 6 4M 64k")}
        blockcommit vm vda --active --wait --pivot
        blockcommit vm vdb --active --wait --pivot
        blockresize vm vdb 8M
        suspend vm
        save vm @/vm.save --verbose
        restore @/vm.save
        domstate vm --reason
        save vm @/vm.save --running
        restore @/vm.save --paused
        domstate vm --reason
        resume vm
        restore @/vm.save
        restore @/nothing
        save vm @/no/where.save
        domstate vm --reason
        save vm @/vm.save --image-format nothing
        managedsave vm
        domstate vm --reason
        dominfo vm
        managedsave-dumpxml vm --xpath //memory
        start vm
        domstate vm --reason
        managedsave vm --paused
        start vm
        domstate vm --reason
        managedsave-remove vm
        managedsave vm --bypass-cache
        managedsave-remove vm
        start vm
        domstate vm --reason
        domjobinfo vm
        domjobinfo vm --completed
        domjobabort vm
        save vm @/vm.save
        domjobinfo vm --completed
        {_found("top.qcow2", "second.qcow2")}
        """,
        state=True,
    ),
    _disks(
        "dumps",
        """
        start vm
        sleep 1
        dump vm @/vm.elf --memory-only
        elf @/vm.elf
        dump vm @/vm.kdump --memory-only --format kdump-zlib
        dump vm @/vm.kdump --memory-only --format kdump-lzo
        dump vm @/vm.kdump --memory-only --format kdump-snappy
        dump vm @/vm.kdump --memory-only --format nothing
        domstate vm --reason
        dump vm @/vm.live --memory-only --live --verbose
        domstate vm --reason
        domjobinfo vm --completed
        dump vm @/vm.dump --live
        domstate vm --reason
        dump vm @/vm.dump --crash --memory-only
        domstate vm --reason
        start vm
        dump vm @/vm.dump
        domstate vm --reason
        dump vm @/vm.dump --reset --memory-only
        dump vm @/no/where.elf --memory-only
        domdirtyrate-calc vm --seconds 1
        until 'calc_status=2' domstats vm --dirtyrate
        domdirtyrate-calc vm --seconds 0
        domdirtyrate-calc vm --seconds 1 --mode dirty-ring
        qemu-monitor-command vm --hmp 'info migrate'
        migrate-getmaxdowntime vm
        migrate-setmaxdowntime vm 500
        migrate-getmaxdowntime vm
        migrate-getspeed vm
        migrate-setspeed vm 100
        migrate-getspeed vm
        migrate-compcache vm
        migrate-compcache vm --size 4194304
        migrate-compcache vm --size 5
        migrate-compcache vm
        destroy vm
        """,
        empty=True,
    ),
    _disks(
        "memory-snapshots",
        f"""
        start vm
        {_with_memory("one")}
        domstate vm --reason
        domblklist vm
        snapshot-list vm --tree
        snapshot-info vm one
        snapshot-dumpxml vm one --xpath //memory
        {_guest("write -P 1 0 64k")}
        snapshot-create-as vm two --live --memspec @/two.memory,snapshot=external --diskspec vda,file=@/two.qcow2 \
        --diskspec vdb,snapshot=no
        domstate vm --reason
        suspend vm
        {_with_memory("three")}
        domstate vm --reason
        snapshot-revert vm one
        snapshot-delete vm three
        snapshot-list vm
        save-image-dumpxml @/one.memory --xpath //memory
        destroy vm
        restore @/two.memory
        domstate vm --reason
        domblklist vm
        destroy vm
        {_found("one.qcow2", "two.qcow2", "three.qcow2")}
        """,
    ),
    _disks(
        "storage-migration",
        f"""
        start vm
        {_guest("write -P 1 2M 64k")}
        img create -f qcow2 @/there.qcow2 8M
        moved
        {_MIGRATE_UNIX} --unsafe --copy-storage-all --migrate-disks vda --xml @/moved.xml
        domstate vm --reason
        there domstate vm --reason
        there domblklist vm
        there domjobinfo vm --completed
        there destroy vm
        img check @/there.qcow2
        map @/there.qcow2
        img compare @/there.qcow2 @/top.qcow2
        start vm
        img create -f qcow2 -b @/base.qcow2 -F qcow2 @/there.qcow2 8M
        {_guest("write -P 3 3M 64k")}
        {_MIGRATE_UNIX} --unsafe --copy-storage-inc --migrate-disks vda --xml @/moved.xml --p2p
        there domstate vm --reason
        there destroy vm
        map @/there.qcow2
        img compare @/there.qcow2 @/top.qcow2
        start vm
        img create -f qcow2 @/there.qcow2 8M
        begin {_MIGRATE_UNIX} --unsafe --copy-storage-all --migrate-disks vda --xml @/moved.xml --bandwidth 1
        until Outgoing domjobinfo vm
        domjobabort vm
        ended
        domstate vm --reason
        domblklist vm
        blockjob vm vda --info
        domjobinfo vm --completed
        there domstate vm
        {_MIGRATE_UNIX} --unsafe --copy-storage-all --migrate-disks nothing --xml @/moved.xml
        domstate vm --reason
        destroy vm
        """,
        moves=True,
        state=True,
    ),
    _disks(
        "migration",
        f"""
        start vm
        {_MIGRATE}
        {_MIGRATE} --unsafe --verbose
        domstate vm --reason
        there domstate vm --reason
        there domblklist vm
        there domjobinfo vm --completed
        there destroy vm
        start vm
        {_MIGRATE} --unsafe --p2p --persistent --undefinesource
        list --all --name
        there list --all --name
        there domstate vm --reason
        there undefine vm
        there destroy vm
        define @/vm.xml
        start vm
        {_MIGRATE} --unsafe --suspend
        there domstate vm --reason
        there resume vm
        there destroy vm
        start vm
        suspend vm
        migrate vm @other --migrateuri tcp:127.0.0.1 --unsafe
        there domstate vm --reason
        there destroy vm
        start vm
        {_MIGRATE} --unsafe --postcopy --postcopy-after-precopy
        there domstate vm --reason
        there destroy vm
        start vm
        {_MIGRATE} --unsafe --auto-converge --compressed --timeout 10 --timeout-suspend
        there domstate vm --reason
        there destroy vm
        start vm
        migrate vm @other --live --unsafe --migrateuri unix:///@/migrate.socket
        migrate vm @other --live --unsafe --migrateuri unix://@/migrate.socket
        migrate vm @other --live --unsafe --migrateuri tcp:127.0.0.1:1
        migrate vm @other --live --unsafe --parallel --parallel-connections 2 --migrateuri tcp:127.0.0.1
        migrate vm qemu+unix:///system?socket=@/nothing --live --unsafe
        there domstate vm --reason
        """,
        moves=True,
        state=True,
    ),
)
