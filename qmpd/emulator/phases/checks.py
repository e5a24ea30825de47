"""What options are refused for when the machine is put together: lists of keys that no part of the machine models.

Each is QEMU's own file's (fsdev/, ui/vnc.c, softmmu/, hw/nvram/fw_cfg.c, backends/tpm); the words are the releases'.
"""

from __future__ import annotations

import datetime
import os
import re
import time
from typing import TYPE_CHECKING, Any

from qmpd.common.integers import from_digits, is_digits
from qmpd.common.refusals import NotModelled, Refusal
from qmpd.emulator.machine_types import find_machine
from qmpd.hardware.memory import ADDRESSABLE
from qmpd.machine.boards import full_name
from qmpd.option_language import key_values
from qmpd.option_language.errors import NOWHERE, BareError, OptionError, OptionList

if TYPE_CHECKING:
    from qmpd.block.graph import BlockGraph
    from qmpd.emulator.phases.board import Board
    from qmpd.emulator.reading.options import EmulatorOptions
    from qmpd.machine import MachineSettings
    from qmpd.option_language.groups import Entry

_TPM = {"passthrough": ("path", "cancel-path"), "emulator": ("chardev",)}
_DATE = re.compile(r"([-+]?[0-9]+)-([-+]?[0-9]+)-([-+]?[0-9]+)")
_MOMENT = re.compile(rf"{_DATE.pattern}T([-+]?[0-9]+):([-+]?[0-9]+):([-+]?[0-9]+)")


class EntryChecks:
    """Looks at the options of one command line."""

    def __init__(self, options: EmulatorOptions, board: Board) -> None:
        self._options = options
        self._groups = options.groups
        self._board = board
        self._warn = options.complaints.line

    def check_icount_recording(self) -> None:
        """See whether what `-icount` records or replays can be.

        :raise OptionError: it is refused.
        """
        entry = self._groups.merged("icount")
        mode = None if entry is None else entry.get("rr")
        if entry is None or mode is None:
            return
        if mode not in ("record", "replay"):
            raise entry.error(f"Invalid icount rr option: {mode}")
        path = entry.get("rrfile")
        if path is None:
            raise entry.error("File name not specified for replay")
        if mode == "replay" and not os.path.exists(path):
            raise BareError(f"Replay: open {path}: No such file or directory", NOWHERE)

    def choose_clock(self) -> dict[str, Any]:
        """What `-rtc` says of the guest's clock, as members of `MachineSettings`.

        :raise OptionError: it is refused.
        """
        entry = self._groups.merged("rtc")
        if entry is None:
            return {}
        base = entry.get("base", "utc")
        if base not in ("utc", "localtime") and _DATE.match(base or "") is None:
            hint = "valid formats: '2006-06-17T16:01:21' or '2006-06-17'"
            raise OptionError("invalid datetime format", NOWHERE, (hint,))
        for key, known in (("clock", ("host", "rt", "vm")), ("driftfix", ("slew", "none"))):
            value = entry.get(key)
            if value is not None and value not in known:
                raise OptionError(f"invalid option value '{value}'", NOWHERE)
        return _clock(base or "")

    def check_file_system(self, entry: Entry) -> None:
        """See whether a `-fsdev` can be had.

        :raise OptionError: it is refused.
        """
        if entry.identifier is None:
            raise entry.error("fsdev: No id specified")
        driver = entry.get("fsdriver")
        if driver not in self._options.release.behaviour.fsdev_drivers.split(","):
            raise entry.error(f"fsdev: fsdriver {driver} not found" if driver else "fsdev: No fsdriver specified")
        if driver == "synth" and entry.has("path"):
            raise entry.error("'path' is invalid for fsdriver 'synth'")
        if driver == "proxy" and not (entry.has("socket") or entry.has("sock_fd")):
            raise entry.error("both socket and sock_fd properties are missing")
        if driver != "local":
            return
        model = entry.get("security_model")
        models = ("passthrough", "mapped", "mapped-xattr", "none", "mapped-file")
        hint = ("Valid options are: security_model=[passthrough|mapped-xattr|mapped-file|none]",)
        if model is None:
            raise entry.error("security_model property not set", hint)
        if model not in models:
            raise entry.error(f"invalid security_model property '{model}'", hint)
        many = entry.get("multidevs")
        if many is not None and many not in ("remap", "forbid", "warn"):
            hint = ("Valid options are: multidevs=[remap|forbid|warn]",)
            raise entry.error(f"invalid multidevs property '{many}'", hint)
        if entry.get("path") is None:
            raise entry.error("path property not set")
        for name in ("fmode", "dmode"):
            if entry.has(name) and not model.startswith("mapped"):
                raise entry.error(f"{name} is only valid for mapped security modes")

    def check_icount(self, entry: Entry) -> None:
        """See whether an `-icount` can be had.

        :raise OptionError: it is refused.
        """
        shift = entry.get("shift")
        if shift is None:
            return
        aligned, sleeping = entry.flag("align"), entry.flag("sleep", default=True)
        if aligned and not sleeping:
            raise entry.error("align=on and sleep=off are incompatible")
        if shift == "auto":
            return
        is_number = re.fullmatch(r"\s*\+?(0[xX][0-9a-fA-F]+|[0-9]+)", shift) is not None
        try:
            number = key_values.number("shift", shift) if is_number else -1
        except Refusal:
            number = -1
        if not 0 <= number <= 10:
            raise entry.error("icount: Invalid shift value")

    def check_tpm(self, entry: Entry) -> None:
        """See whether a `-tpmdev` can be had.

        :raise OptionError: it is refused.
        """
        if entry.identifier is None:
            raise entry.error("Parameter 'id' is missing")
        kind = entry.get("type")
        if kind is None:
            raise entry.error("Parameter 'type' is missing", self._options.lists.tpm_types())
        if kind not in _TPM:
            raise entry.error("Parameter 'type' expects a TPM backend type", self._options.lists.tpm_types())
        for key, _ in entry.pairs:
            if key != "type" and key not in _TPM[kind]:
                raise entry.error(f"Invalid parameter '{key}'")
        if entry.get("type") == "emulator":
            label = entry.get("chardev")
            if label is None:
                raise entry.error("tpm-emulator: parameter 'chardev' is missing")
            if label not in self._options.chardevs.labels:
                raise entry.error(f"tpm-emulator: tpm chardev '{label}' not found")
            return
        path = entry.get("path", "/dev/tpm0") or ""
        try:
            with open(path, "rb"):
                raise entry.error(f"'{path}' is not a TPM device.")
        except OSError as error:
            raise entry.error(f"Cannot access TPM device using '{path}': {error.strerror}") from None

    def load_plugin(self, path: str) -> None:
        """See whether a plugin can be loaded; none can.

        :raise OptionError: it is refused.
        """
        if "/" in path and os.path.exists(path):
            raise OptionError(f"Could not load plugin {path}: {path}: invalid ELF header", NOWHERE)
        tried = path if path.endswith(".so") else f"{path}.so"
        raise OptionError(
            f"Could not load plugin {path}: {tried}: cannot open shared object file: No such file or directory", NOWHERE
        )

    def check_vnc(self, entry: Entry) -> None:
        """See whether a `-vnc` can be had.

        :raise OptionError: it is refused.
        """
        address = entry.get("vnc")
        if address is None or address == "":
            return
        if address != "none":
            self.check_vnc_address(entry, address)
        credentials = entry.get("tls-creds")
        objects = self._options.machine.settings.objects
        if credentials is not None and all(each["id"] != credentials for each in objects):
            raise entry.error(f"No TLS credentials with id '{credentials}'")
        if entry.get("tls-authz") is not None and credentials is None:
            raise entry.error("'tls-authz' provided but TLS is not enabled")
        if entry.get("sasl-authz") is not None and not entry.flag("sasl"):
            raise entry.error("'sasl-authz' provided but SASL auth is not enabled")
        if entry.get("share") not in (None, "ignore", "allow-exclusive", "force-shared"):
            raise entry.error("unknown vnc share= option")
        audio = entry.get("audiodev")
        if audio is not None and audio not in self._options.singles.audio_backends:
            raise Refusal("vnc-audiodev-missing", audiodev=audio).at(entry.location)
        shown = entry.get("display")
        known = {device.properties.get("id") for device in self._options.machine.settings.devices}
        if shown is not None and shown not in known:
            raise entry.error(f"Device '{shown}' not found")

    def check_vnc_address(self, entry: Entry, address: str) -> None:
        """See whether it can be listened there.

        :raise OptionError: it is refused.
        """
        if address.startswith("unix:"):
            path = address.removeprefix("unix:")
            try:
                os.stat(os.path.dirname(path) or ".")
            except OSError as error:
                raise entry.error(f"Failed to bind socket to {path}: {error.strerror}") from None
            return
        _, colon, port = address.rpartition(":")
        if not colon:
            raise entry.error("no vnc port specified")
        if not is_digits(port):
            raise entry.error(f"can't convert to a number: {port}")
        if from_digits(port) + 5900 > 65535:
            raise entry.error(f"port {port} out of range")

    def firmware_files(self) -> None:
        """See whether the files that `-fw_cfg` gives the firmware can be had.

        :raise OptionError: it is refused.
        """
        names: set[str] = set()
        for entry in self._groups.find("fw_cfg"):
            if not self._board.kind.has_cpus:
                raise entry.error("fw_cfg device not available")
            name = entry.get("name")
            ways = [key for key in ("file", "string", "gen_id") if entry.get(key)]
            if not name or len(ways) != 1:
                raise entry.error("name, plus exactly one of file, string and gen_id, are needed")
            if len(name) > 55:
                raise entry.error("name too long (max. 55 char)")
            if ways[0] != "gen_id" and not name.startswith("opt/"):
                self._warn(
                    f'{entry.location}: warning: externally provided fw_cfg item names should be prefixed with "opt/"'
                )
            if ways[0] == "gen_id":
                wanted = entry.get("gen_id")
                if all(each["id"] != wanted for each in self._options.machine.settings.objects):
                    raise entry.error(f"Cannot find object ID '{wanted}'")
            path = entry.get("file")
            if path:
                try:
                    os.stat(path)
                except OSError as error:
                    text = f"Failed to open file \u201c{path}\u201d: {error.strerror}"
                    raise entry.error(f"can't load {path}: {text}") from None
            if name in names or name in self._board.firmware_files:
                raise entry.error(f"duplicate fw_cfg file name: {name}")
            names.add(name)

    def write_states(self, machine: MachineSettings) -> None:
        """Write what `-dump-vmstate` asks for, and end; nothing where it does not.

        :raise OptionList: it is written.
        :raise OptionError: it cannot be.
        """
        path = self._options.values.get("dump-vmstate")
        if path is None:
            return
        from qmpd.server.output_file import open_output

        release = self._options.release
        name = full_name(machine.machine_name or machine.machine_type, release.behaviour.usual_machine)
        states = release.states(name)
        if states is None:
            raise NotModelled(f"-dump-vmstate: what release {release.name} would write was not captured")
        try:
            output = open_output(path, 0o666)
            output.write(0, states)
            output.close()
        except OSError as error:
            raise Refusal("states-file", path=path, reason=error.strerror).at(f"-dump-vmstate {path}") from None
        raise OptionList("", 0)

    def check_snapshot(self, graph: BlockGraph) -> str | None:
        """See whether what `-loadvm` names is there; it is loaded once the machine is.  None where it names nothing.

        :raise Refusal: it is not.
        """
        tag: str | None = self._options.values.get("loadvm")
        if tag is not None:
            from qmpd.block.machine_snapshots import check

            try:
                check(graph, tag, only_later=self._options.release.behaviour.snapshots_skip_earlier)
            except Refusal as refusal:
                raise refusal.at(NOWHERE) from None
        return tag

    def check_store(self, path: str | None, machine: MachineSettings) -> None:
        """See whether memory can be kept at this path (`-mem-path`), or by the process itself where there is none.

        :raise OptionError: it cannot.
        """
        if path is None:
            if machine.memory >= ADDRESSABLE:
                known = find_machine(self._options.release, machine.machine_name or machine.machine_type) or {}
                raise Refusal("memory-too-large", id=known.get("default-ram-id", "ram")).at(NOWHERE)
        elif not os.path.exists(path):
            try:
                os.stat(os.path.dirname(path) or ".")
            except OSError as error:
                text = f"can't open backing store {path} for guest RAM: {error.strerror}"
                raise OptionError(text, NOWHERE) from None

    def check_slots(self) -> None:
        """See that the PCI devices that the firmware's tables name are there; other releases look when it asks."""
        if not self._options.release.behaviour.smbios_slots_checked_early:
            return
        known = {device.properties.get("id") for device in self._options.machine.settings.devices}
        for entry in self._groups.find("smbios"):
            wanted = entry.get("pcidev")
            if wanted is not None and wanted not in known:
                name = entry.get("designation") or "(null)"
                raise OptionError(f"No PCI device {wanted} for SMBIOS type {entry.get('type')} entry {name}", NOWHERE)


def _clock(base: str) -> dict[str, Any]:
    if base == "utc":
        return {}
    if base == "localtime":
        return {"clock_base": time.localtime().tm_gmtoff * 1_000_000}
    found = _MOMENT.match(base) or _DATE.match(base)
    assert found is not None
    try:
        year, month, day, *clock = map(int, found.groups())
        hour, minute, second = clock or (0, 0, 0)
        # A month or an hour that there is not counts on into the next year or day.
        start = datetime.datetime(year + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=datetime.UTC)
        shown = start + datetime.timedelta(days=day - 1, hours=hour, minutes=minute, seconds=second)
    except (ValueError, OverflowError):
        raise NotModelled("a clock that begins before the year 1 or after 9999") from None
    return {"clock_start": int(shown.timestamp()) * 1_000_000}
