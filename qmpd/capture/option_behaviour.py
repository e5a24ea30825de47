"""Measuring how a release takes options: each question is a command line that ends by itself.

It ends because of what is asked, or at the latest at a device that there is not, which is looked for after the rest.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Any, NamedTuple

from qmpd.capture.client import PATIENCE
from qmpd.capture.reference import NO_MACHINE, OPTIONS, PC

_FSDEV_DRIVERS = ("local", "synth", "proxy")
_ODD_MEMORY = "memory-backend-file,id=zqmemory,mem-path=/tmp,size=4097"
_PRETTY = "chardev=zqmon,mode=readline,pretty=on"
# Audio drivers that programs mostly lack.
_RARE_DRIVERS = ("sdl", "coreaudio", "dsound", "sndio")
_END = ["-device", "zqnone"]


class _Said(NamedTuple):
    """What a program printed, and what it complained of before it came to the device that there is not."""

    printed: str
    complaint: str


class _Asker:
    """Asks the program that `command` starts."""

    def __init__(self, command: str) -> None:
        self._argv = shlex.split(command)

    def __call__(self, *options: str, machine: str = NO_MACHINE, ends: bool = False) -> _Said:
        """What is said to these options; they end the program by themselves where it `ends`."""
        ended = subprocess.run(
            [*self._argv, *OPTIONS[machine], *options, *(() if ends else _END)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=PATIENCE,
            check=False,
        )
        lines = [line for line in ended.stderr.splitlines() if _END[1] not in line]
        return _Said(ended.stdout, "\n".join(lines))


def measure_options(command: str) -> dict[str, Any]:
    """The fields of `Behaviour` about options, as far as they can be told from outside.

    :raise OSError, subprocess.SubprocessError: the program does not start, or does not end.
    """
    ask = _Asker(command)
    return {**_of_machine(ask), **_of_parts(ask), **_of_process(ask)}


def _of_machine(ask: _Asker) -> dict[str, Any]:
    cpu = ask("-cpu", "qemu64,family=9999", machine=PC).complaint
    bits = ask("-cpu", "qemu64,phys-bits=99", machine=PC).complaint
    encryption = ask("-machine", "memory-encryption=zq", machine=PC).complaint
    files = ask("-incoming", "file:/zqfolder/file", ends=True).complaint
    # Standard input is /dev/null, where no machine comes from.
    descriptors = ask("-incoming", "fd:0", ends=True).complaint
    return {
        "cpu_numbers_unsigned": "can be at most" in cpu,
        "cpu_address_bits": "fixed" if "only supports" in bits else "range" if "between" in bits else "any",
        "memory_encryption": (
            "deprecated" if "is deprecated" in encryption else "checked" if "No such" in encryption else "unused"
        ),
        "hyperv_vendor_checked": bool(ask("-cpu", "qemu64,hv-vendor-id=0123456789abc", machine=PC).complaint),
        "usb_devices_deprecated": "deprecated" in ask("-usbdevice", "zqusb", machine=PC).complaint,
        "memory_devices_checked_first": "memdev" not in ask("-device", "virtio-mem-pci", machine=PC).complaint,
        "smbios_slots": "Don't know" not in ask("-smbios", "type=9", machine=PC).complaint,
        "cards_listed_always": "mac" in ask("-global", "ne2k_pci.mac=zq", machine=PC).complaint,
        "xen_domain_known": not ask("-xen-domid", "1").complaint,
        "migrates_through_files": "unknown migration protocol" not in files,
        "descriptors_of_files": (
            "refused" if "not supported" in descriptors else "deprecated" if "deprecated" in descriptors else "taken"
        ),
        "incoming_channels": "channel-type" in ask("-incoming", "zqword").complaint,
    }


def _of_parts(ask: _Asker) -> dict[str, Any]:
    drivers = [
        driver
        for driver in _FSDEV_DRIVERS
        if f"fsdriver {driver} not found" not in ask("-fsdev", f"{driver},id=zqfs").complaint
    ]
    found: dict[str, Any] = {}
    rare = "\n".join(ask("-audiodev", f"{driver},id=zqaudio").complaint for driver in _RARE_DRIVERS)
    if unknown := re.search("(.*)Unknown audio driver", rare):
        found["audio_faults_bare"] = unknown[1].startswith("audio:")
    if "no option group" in ask("-spice", "help", ends=True).complaint:
        # A program that takes it may have the module or need none.
        found["spice_is_module"] = True
    wrong = ask("-device", "e1000,mac=zq,addr=99", machine=PC).complaint
    found["device_options_in_order"] = "e1000.mac" in wrong
    models = ask("-nic", "user,model=help", machine=PC, ends=True)
    return {
        **found,
        "fsdev_drivers": ",".join(drivers),
        "defaults_plain": "(default: true)" not in ask("-device", "e1000,help", machine=PC).printed,
        "nic_help": not ask("-nic", "help").complaint,
        "virtio_card_named": "(aka virtio)" in models.printed + models.complaint,
        "nic_models_refused_at_once": "nsupported NIC model" in ask("-nic", "user,model=zqnic", machine=PC).complaint,
        "streams_are_trees": "addr.type" in ask("-netdev", "stream,id=zqnet,addr.type=zq").complaint,
        "audio_backends_are_objects": bool(ask(*("-audiodev", "none,id=zqaudio") * 2).complaint),
        "bus_listed_by_option": "devices at" in ask("-device", "e1000,bus=/main-system-bus/zq", machine=PC).complaint,
        "memory_files_of_pages": "multiple of" in ask("-object", _ODD_MEMORY).complaint,
        "audio_without_model": not ask("-audio", "none").complaint,
        "failover_pairs": _failover_pairs(ask),
    }


def _failover_pairs(ask: _Asker) -> str:
    """How much a primary has to be right to be hidden: one without an id, and one on a bus that takes none later."""
    standby = ("-machine", "q35", "-device", "virtio-net-pci,id=zqnet,failover=on")
    nameless = ask(*standby, "-device", "e1000e,failover_pair_id=zqnet", machine=PC).complaint
    if "needs to have id" not in nameless:
        return "loose"
    misplaced = ask(*standby, "-device", "e1000e,id=zqcard,failover_pair_id=zqnet,bus=pcie.0", machine=PC).complaint
    return "strict" if "not support hotplugging" in misplaced else "checked"


def _of_process(ask: _Asker) -> dict[str, Any]:
    log = ask("-D", "/zqfolder/log").complaint
    return {
        "log_always_opened": "zqfolder" in log,
        "log_faults_bare": log.startswith("/zqfolder"),
        "missing_types_told": "type is NULL" in ask("-vga", "help", machine=PC).complaint,
        "mon_deprecated": "deprecated" in ask("-chardev", "null,id=zqmon", "-mon", "chardev=zqmon").complaint,
        "plugins_built": "not enabled" not in ask("-plugin", "/zqfolder/plugin.so").complaint,
        "pretty_needs_control": "no effect" not in ask("-chardev", "null,id=zqmon", "-mon", _PRETTY).complaint,
        "plugin_help": bool(ask("-plugin", "help").printed),
    }
