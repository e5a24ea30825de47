"""The options about the machine, with what is told of each."""

from __future__ import annotations

from qmpd.option_language.options import Option

_WITHOUT_EFFECT = "Accepted, without effect"
_MACHINE = "The machine"
_START = "How it starts"
_END = "What resets, shutdowns and failures do"

OPTIONS = (
    Option("machine", "none|pc[,PROPERTY=VALUE]...", _MACHINE, "the machine's type: none has no CPU and no guest"),
    Option("M", "none|pc[,PROPERTY=VALUE]...", _MACHINE, None),
    Option("m", "[size=]SIZE", _MACHINE, "its memory, in MiB or with a suffix (k, M, G, ...); none is held"),
    Option(
        "smp",
        "[cpus=]N[,maxcpus=N][,sockets=N][,cores=N][,threads=N]",
        _MACHINE,
        "its virtual CPUs and their topology",
    ),
    Option("name", "[guest=]NAME", _MACHINE, "its name, for query-name"),
    Option("uuid", "UUID", _MACHINE, "its UUID, for query-uuid"),
    Option("device", "DRIVER[,PROPERTY=VALUE]...", _MACHINE, "a device: pvpanic, ib700 and isa-debug-exit act"),
    Option("S", None, _START, "do not start the CPUs before 'cont'"),
    Option("preconfig", None, _START, "stop before the machine is made, until 'x-exit-preconfig'"),
    Option("incoming", "URI", _START, "wait for a machine that migrates to there, or (defer) until it is said where"),
    Option("no-reboot", None, _END, "a reset ends the machine: -action reboot=shutdown"),
    Option("no-shutdown", None, _END, "a shutdown pauses the machine: -action shutdown=pause"),
    Option(
        "action",
        "EVENT=ACTION[,EVENT=ACTION]...",
        _END,
        "reboot=reset|shutdown, shutdown=poweroff|pause, panic=pause|shutdown|exit-failure|none, watchdog=ACTION",
    ),
    Option(
        "watchdog-action",
        "ACTION",
        _END,
        "reset|shutdown|poweroff|pause|debug|none|inject-nmi",
    ),
    Option("display", "TYPE", _WITHOUT_EFFECT, "there is nothing to show"),
    Option("nographic", None, _WITHOUT_EFFECT, "the same"),
    Option("nodefaults", None, _WITHOUT_EFFECT, "no device is made that was not asked for"),
    Option("no-user-config", None, _WITHOUT_EFFECT, "no configuration file is read"),
    Option("accel", "NAME[,PROPERTY=VALUE]...", _WITHOUT_EFFECT, "nothing is accelerated"),
    Option("cpu", "MODEL[,PROPERTY=VALUE]...", _WITHOUT_EFFECT, "no CPU is emulated"),
    Option("drive", "PROPERTY=VALUE[,...]", _WITHOUT_EFFECT, "no drive is opened"),
)
