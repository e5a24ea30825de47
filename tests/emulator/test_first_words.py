"""What monitors have said before QEMU finds that the machine cannot be made (seen on four releases)."""

from __future__ import annotations

import json

import pytest

from tests.emulator.support import run

BANNERS = (("7.2", "QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) "),
           ("10.0", "QEMU 10.0.13 monitor - type 'help' for more information\r\n"))  # fmt: skip


@pytest.mark.parametrize(("release", "banner"), BANNERS)
def test_the_human_monitor(release: str, banner: str) -> None:
    def said(*options: str) -> str:
        done = run("-nodefaults", "-display", "none", "-monitor", "stdio", *options, release=release)
        assert done.returncode == 1
        return done.stdout.replace("\n", "\r\n") if "\r" not in done.stdout else done.stdout

    assert said("-device", "foo").replace("\r\r", "\r") == banner
    assert said("-drive", "if=ide").replace("\r\r", "\r") == banner
    assert said("-drive", "driver=foo") == said("-machine", "foo") == "", "there is no monitor yet"


def test_qmp() -> None:
    done = run("-nodefaults", "-display", "none", "-qmp", "stdio", "-device", "foo")
    assert list(json.loads(done.stdout)) == ["QMP"]
