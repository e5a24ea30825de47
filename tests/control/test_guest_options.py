"""`-guest` and `-clock` on the command line."""

from __future__ import annotations

from dataclasses import fields

import pytest

from qmpd.cli import serve
from qmpd.control.guest_options import GuestOptions, changes, options
from qmpd.machine import Firmware, GuestAction, GuestSettings, GuestUnplug, GuestWakeup
from qmpd.option_language.errors import OptionError


def parsed(*arguments: str) -> GuestSettings | None:
    result = serve.parse(list(arguments))
    assert result is not None
    return result[0].machine.guest


def test_every_setting_has_its_option() -> None:
    settings = [field.name for field in fields(GuestSettings)]
    settings.remove("script_text")  # it comes with the script's path
    assert list(GuestOptions.__annotations__) == settings


def test_options_make_settings() -> None:
    line = (
        "firmware=once,firmware-resets=2-3,operating-system=on,boot-time=2s,on-boot=reboot,on-powerdown=ignore,"
        "powerdown-delay=1.5m,on-sleep=hibernate,on-nmi=panic,on-wakeup=reboot,sleep-time=250ms,debug-exit-value=7,"
        "on-unplug=refuse,unplug-delay=1s,balloon=off,balloon-delay=2ms,"
        "memory-used=2G,dirty-rate=50M"
    )
    assert parsed("-guest", line) == GuestSettings(
        firmware=Firmware.ONCE,
        firmware_resets=(2, 3),
        operating_system=True,
        boot_time=2_000_000_000,
        on_boot=GuestAction.REBOOT,
        on_powerdown=GuestAction.NONE,
        powerdown_delay=90_000_000_000,
        on_sleep=GuestAction.HIBERNATE,
        on_nmi=GuestAction.PANIC,
        on_wakeup=GuestWakeup.REBOOT,
        sleep_time=250_000_000,
        debug_exit_value=7,
        on_unplug=GuestUnplug.REFUSE,
        unplug_delay=1_000_000_000,
        balloon=False,
        balloon_delay=2_000_000,
        memory_used=2 << 30,
        dirty_rate=50 << 20,
    )


def test_several_options_add_up_and_the_last_one_counts() -> None:
    guest = parsed("-guest", "boot-time=2s,on-nmi=panic", "--guest", "boot-time=3,sleep-time=never")
    assert guest == GuestSettings(boot_time=3_000_000_000, on_nmi=GuestAction.PANIC)


def test_without_it_there_is_no_operating_system() -> None:
    assert parsed("-machine", "pc") is None


def test_options_come_back_as_they_were_given() -> None:
    settings = GuestSettings(boot_time=2_500_000_000, on_powerdown=GuestAction.REBOOT, sleep_time=1)
    assert GuestSettings(**changes(options(settings))) == settings


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("speed=1", "-guest speed=1: Invalid parameter 'speed'"),
        ("boot_time=1s", "-guest boot_time=1s: Invalid parameter 'boot_time'; did you mean 'boot-time'?"),
        ("boot-time=2x", "-guest boot-time=2x: Parameter 'boot-time': '2x' is not a time: "
         "a number with one of the units ns, us, ms, s, m, h is"),
        ("operating-system=maybe", "-guest operating-system=maybe: Parameter 'operating-system' expects 'on' or 'off'"),
        ("firmware=uefi", "-guest firmware=uefi: Parameter 'firmware' does not accept value 'uefi'; "
         "there are 'none', 'once' and 'seabios'"),
        ("firmware-resets=-1", "-guest firmware-resets=-1: 'firmware-resets' is a number from 0 to 1000, "
         "or two of them like 2-3"),
        ("dirty-rate=x", "-guest dirty-rate=x: Parameter 'dirty-rate': 'x' is not a size: "
         "a number is, 64k, 1M, 2G or 0x200"),
        ("debug-exit-value=256", "-guest debug-exit-value=256: 'debug-exit-value' is a number from 0 to 255"),
    ],
)
def test_mistakes_are_named(line: str, message: str) -> None:
    with pytest.raises(OptionError) as raised:
        serve.parse(["-guest", line])
    assert str(raised.value) == message


def test_machine_none_has_no_guest() -> None:
    with pytest.raises(OptionError, match="machine 'none' has no guest"):
        serve.parse(["-machine", "none", "-guest", "boot-time=1s"])


@pytest.mark.parametrize("clock", ["real", "virtual", "scaled=60", "scaled=0.5"])
def test_clocks(clock: str) -> None:
    result = serve.parse(["-clock", clock])
    assert result is not None
    assert result[0].clock == clock


@pytest.mark.parametrize("clock", ["", "fast", "scaled", "scaled=", "scaled=0", "scaled=-1", "scaled=nan", "virtual=1"])
def test_what_is_no_clock(clock: str) -> None:
    with pytest.raises(OptionError, match="-clock"):
        serve.parse(["-clock", clock])


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp:localhost:1", "only a path, or unix:PATH, is served"),
        ("unix:", "a path is missing"),
        ("unix:/x,server=on", "Invalid parameter 'server'"),
        ("unix:" + "x" * 108, "is too long"),
    ],
)
def test_where_no_control_socket_can_be(address: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        serve.parse(["-control", address])
