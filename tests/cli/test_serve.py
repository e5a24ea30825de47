"""What `qmpd serve` says of its command line, beyond QEMU's own words."""

from __future__ import annotations

import shlex

import pytest

from qmpd.cli import main, serve
from qmpd.option_language.errors import OptionError
from qmpd.qapi import release_names
from qmpd.server.settings import MonitorSettings


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("-foo", "-foo: invalid option"),
        ("-m foo", "-m foo: Parameter 'size' expects a non-negative number below 2^64"),
        ("-machine foo", 'unsupported machine type: "foo"'),
        ("--release 7.2 -machine foo", "unsupported machine type"),
        ("--release 11.1 -machine foo", 'unsupported machine type: "foo"'),
        ("--release 5.2 -machine foo", "-machine foo: unsupported machine type"),
        ("vm.sock", "vm.sock: unexpected argument (a socket is given with --socket PATH)"),
        ("-qmp tcp:localhost:4444", "-qmp tcp:localhost:4444: only unix: is served"),
        ("-qmp unix:vm.sock", "-qmp unix:vm.sock: connecting is not served, only listening: server=on is missing"),
        (
            "-qmp unix:vm.sock,server=on,telnet=on",
            "-qmp unix:vm.sock,server=on,telnet=on: 'telnet' is not served",
        ),
        ("--socket ''", "--socket : a path is missing"),
        ("-incoming nowhere:0:4444", "-incoming nowhere:0:4444: unknown migration protocol: nowhere:0:4444"),
    ],
)
def test_errors(line: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["serve", *shlex.split(line)]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"qmpd: {text}\n")


def test_an_unknown_release_names_the_known_ones() -> None:
    with pytest.raises(OptionError, match="unknown release '0.9'") as caught:
        serve.parse(["--release", "0.9"])
    for name in release_names():
        assert name in str(caught.value)


def test_monitors() -> None:
    parsed = serve.parse(
        shlex.split(
            "--socket a.sock -qmp unix:b.sock,server=on,wait=off -qmp-pretty unix:c,,d.sock,server,nowait "
            "-qmp unix:path=e.sock,server=on,exclusive=on"
        )
    )
    assert parsed is not None
    assert parsed[0].monitors == [
        MonitorSettings(path="a.sock", chardev="compat_monitor0"),
        MonitorSettings(path="b.sock", chardev="compat_monitor1"),
        MonitorSettings(path="c,d.sock", pretty=True, chardev="compat_monitor2"),
        MonitorSettings(path="e.sock", wait=True, exclusive=True, chardev="compat_monitor3"),
    ]


def test_devices() -> None:
    parsed = serve.parse(
        shlex.split("""-device ib700,id=w -device '{"driver": "pvpanic", "ioport": 1285, "events": 3}'""")
    )
    assert parsed is not None
    assert [(device.driver, device.properties) for device in parsed[0].machine.devices] == [
        ("ib700", {"id": "w"}),
        ("pvpanic", {"ioport": "1285", "events": "3"}),
    ]


@pytest.mark.parametrize(("line", "level"), [("", 0), ("-v", 1), ("-v -v", 2), ("-vv", 2), ("-vv -v", 2), ("--vv", 2)])
def test_verbosity(line: str, level: int) -> None:
    parsed = serve.parse(shlex.split(line))
    assert parsed is not None
    assert parsed[1] == level


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    for spelling in ("-h", "-help", "--help"):
        assert main.main(["serve", spelling]) == 0
        text = capsys.readouterr().out
        for option in serve.OPTIONS:
            assert option.meaning is None or f"-{option.name}" in text
        assert max(map(len, text.splitlines())) <= 80


def test_the_main_help_names_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in main.SUBCOMMANDS:
        assert f"  {name} " in text
