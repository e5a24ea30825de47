"""What the firmware is given: `-smbios`, `-acpitable`, `-option-rom` (hw/smbios/smbios.c, hw/acpi/core.c)."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from qmpd.common.integers import from_digits
from qmpd.common.refusals import Refusal
from qmpd.option_language import key_values
from qmpd.option_language.errors import OptionError
from qmpd.option_language.key_values import BOOL, NUMBER, STRING

if TYPE_CHECKING:
    from qmpd.emulator.reading.kept import KeptOptions
    from qmpd.option_language.groups import Entry
    from qmpd.option_language.options import Given

_SLOTS = 9
_SMBIOS_TYPES: dict[int, dict[str, str]] = {
    0: {**dict.fromkeys(("vendor", "version", "date", "release"), STRING), "uefi": BOOL},
    1: dict.fromkeys(("manufacturer", "product", "version", "serial", "uuid", "sku", "family"), STRING),
    2: dict.fromkeys(("manufacturer", "product", "version", "serial", "asset", "location"), STRING),
    3: dict.fromkeys(("manufacturer", "version", "serial", "asset", "sku"), STRING),
    4: {
        **dict.fromkeys(("sock_pfx", "manufacturer", "version", "serial", "asset", "part"), STRING),
        **dict.fromkeys(("max-speed", "current-speed", "processor-id"), NUMBER),
    },
    8: {
        **dict.fromkeys(("internal_reference", "external_reference"), STRING),
        **dict.fromkeys(("connector_type", "port_type"), NUMBER),
    },
    9: {
        **dict.fromkeys(("slot_designation", "pcidev"), STRING),
        **dict.fromkeys(
            (
                *("slot_type", "slot_data_bus_width", "current_usage", "slot_length", "slot_id"),
                *("slot_characteristics1", "slot_characteristics12"),
            ),
            NUMBER,
        ),
    },
    11: dict.fromkeys(("value", "path"), STRING),
    17: {**dict.fromkeys(("loc_pfx", "bank", "manufacturer", "serial", "asset", "part"), STRING), "speed": NUMBER},
    41: {**dict.fromkeys(("designation", "kind", "pcidev"), STRING), "instance": NUMBER},
}
_SMBIOS_KINDS = ("other", "unknown", "video", "scsi", "ethernet", "tokenring", "sound", "pata", "sata", "sas")
_LAST_SMBIOS_TYPE = 127
_ACPI_TEXTS = ("sig", "oem_id", "oem_table_id", "asl_compiler_id", "file", "data")
_ACPI_NUMBERS = {"rev": 8, "oem_rev": 32, "asl_compiler_rev": 32}
_ACPI_HEADER, _ACPI_LARGEST = 36, 65535
_SMALLEST_SMBIOS = 4
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")
_RELEASE = re.compile(r"\s*[0-9]+\.[0-9]+")


class FirmwareTables:
    """Takes these options for a command line."""

    def __init__(self, options: KeptOptions) -> None:
        self._options = options
        self._release = options.release

    def smbios(self, given: Given) -> None:
        """`-smbios`.

        :raise OptionError: it is wrong.
        """
        entry = self._options.groups.parse(given, "smbios")
        path = entry.get("file")
        if path is not None:
            for key, _ in entry.pairs:
                if key != "file":
                    raise OptionError(f"Invalid parameter '{key}'")
            try:
                size = os.stat(path).st_size
            except OSError:
                size = -1
            if size < _SMALLEST_SMBIOS:
                raise OptionError(f"Cannot read SMBIOS file {path}")
            return
        text = entry.get("type")
        if text is None:
            raise OptionError("Must specify type= or file=")
        digits = re.match(r"\s*(0[xX][0-9a-fA-F]+|[0-9]+)", text)
        kind = 0
        if digits:
            kind = from_digits(digits[1][2:], 16) if digits[1][:2].lower() == "0x" else from_digits(digits[1])
        if kind > _LAST_SMBIOS_TYPE:
            raise OptionError("out of range!")
        known = _SMBIOS_TYPES.get(kind)
        if known is None or (kind == _SLOTS and not self._release.behaviour.smbios_slots):
            raise OptionError(f"Don't know how to build fields for SMBIOS type {kind}")
        key_values.check_flat_list(entry.pairs, {**known, "type": NUMBER})
        if kind == 0 and (number := entry.get("release")) is not None and _RELEASE.match(number) is None:
            raise OptionError("Invalid release")
        if kind == 1 and (uuid := entry.get("uuid")) is not None and _UUID.match(uuid) is None:
            raise OptionError("Invalid UUID")
        if kind == 4:
            for name in ("max-speed", "current-speed"):
                if entry.has(name) and key_values.number(name, entry.get(name) or "") > 0xFFFF:
                    raise OptionError("SMBIOS CPU speed is too large (> 65535)")
        if kind == 11:
            self._check_strings(entry)
        if kind == 41 and (named := entry.get("kind")) is not None and named not in _SMBIOS_KINDS:
            raise OptionError(f"invalid parameter value: {named}")

    @staticmethod
    def _check_strings(entry: Entry) -> None:
        for key, value in entry.pairs:
            if key != "path":
                continue
            try:
                with open(value, "rb") as file:
                    if b"\0" in file.read(1 << 16):
                        raise OptionError(f"NUL in OEM strings value in {value}")
            except OSError as error:
                raise OptionError(f"Could not open '{value}': {error.strerror}") from None

    def acpi_table(self, given: Given) -> None:
        """`-acpitable`.

        :raise OptionError: it is wrong.
        """
        entry = self._options.groups.parse(given, "acpi")
        for key, bits in _ACPI_NUMBERS.items():
            text = entry.get(key)
            if text is not None:
                number = whole_number(text)
                if number is None:
                    raise OptionError(f"Parameter '{key}' expects a uint64 value")
                if number >> bits:
                    raise OptionError(f"Parameter '{key}' expects uint{bits}_t")
        for key, _ in entry.pairs:
            if key not in _ACPI_TEXTS and key not in _ACPI_NUMBERS:
                raise OptionError(f"Invalid parameter '{key}'")
        has_header = entry.has("file")
        if has_header == entry.has("data"):
            raise OptionError("'-acpitable' requires one of 'data' or 'file'")
        size, paths = 0, entry.get("file") or entry.get("data")
        if not paths:
            raise OptionError("'-acpitable' requires at least one pathname")
        for path in paths.split(":"):
            try:
                with open(path, "rb") as file:
                    size += len(file.read(_ACPI_LARGEST * 2))
            except OSError as error:
                code = "acpi-file-read" if isinstance(error, IsADirectoryError) else "acpi-file-open"
                raise Refusal(code, path=path, reason=error.strerror) from None
        if has_header and size < _ACPI_HEADER:
            raise OptionError(
                f"ACPI table claiming to have header is too short, available: {size}, expected: {_ACPI_HEADER}"
            )
        total = size if has_header else size + _ACPI_HEADER
        if total > _ACPI_LARGEST:
            raise OptionError(f"ACPI table too big, requested: {total}, max: {_ACPI_LARGEST}")
        if not has_header and all(key == "data" for key, _ in entry.pairs):
            self._options.complaints.line(f"{given.location}: warning: ACPI table: no headers are specified")

    def option_rom(self, given: Given) -> None:
        """`-option-rom`.

        :raise OptionError: it is wrong.
        """
        entry = self._options.groups.parse(given, "option-rom")
        if entry.get("romfile") is None:
            raise OptionError("Option ROM file is not specified")


def whole_number(text: str) -> int | None:
    """The number that a text is, without a sign and all of it; None for any other text."""
    try:
        return key_values.number("", text)
    except Refusal:
        return None
