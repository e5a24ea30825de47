"""`-cpu`: the model, its features, and what QEMU refuses of them (target/i386/cpu.c)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from qmpd.common.refusals import Refusal
from qmpd.hardware.processors import feature_name
from qmpd.option_language import key_values
from qmpd.option_language.errors import NOWHERE, OptionError
from qmpd.option_language.property_values import check_text

if TYPE_CHECKING:
    from qmpd.emulator.phases.board import Board, BoardOptions
    from qmpd.machine.blueprint import MachineSettings
    from qmpd.option_language.groups import Entry

_LIMITS = {"family": 0xFF + 0xF, "model": 0xFF, "stepping": 0xF}
_VENDOR = 12
_BRANCH_FORMAT = 0x3F
_SVM_LEAF = "CPUID.8000000AH:"
_ADDRESS_BITS = (32, 52)
_EMULATED_BITS = 40
_TRUE = ("on", "yes", "true", "y")
_AMD = "AuthenticAMD"


class CPUs:
    """The CPUs of a machine that is being put together."""

    def __init__(self, options: BoardOptions, board: Board) -> None:
        self._options = options
        self._release = options.release
        self._sizes = options.release.behaviour.size_language
        self._board = board
        self._type = f"{self._machine.cpu_model}-x86_64-cpu"
        self._signed: list[tuple[str, bool]] = []
        self._properties: list[tuple[str, str]] = []
        self._mixes = False

    @property
    def _machine(self) -> MachineSettings:
        return self._options.machine.settings

    def parse(self) -> None:
        """Take `-cpu` apart.

        :raise OptionError: there is no such model.
        """
        text = self._options.values.get("cpu")
        if text is None:
            usual = self._board.kind.cpu_model
            self._options.machine.settings = replace(self._machine, cpu_model=usual)
            self._type = f"{usual}-x86_64-cpu"
            return
        if not text:
            raise OptionError("-cpu option cannot be empty", NOWHERE)
        model, _, rest = text.partition(",")
        names = self._models()
        if names and model not in names:
            raise OptionError(f"unable to find CPU model '{model}'", NOWHERE)
        self._type = f"{model}-x86_64-cpu"
        for feature in filter(None, rest.split(",")):
            if feature[0] in "+-":
                self._signed.append((feature[1:].replace("_", "-"), feature[0] == "+"))
                continue
            name, equals, value = feature.partition("=")
            name = name.replace("_", "-")
            self._warn_of_mixing(name, value if equals else "on")
            if name == "tsc-freq":
                name, value = "tsc-frequency", self._frequency(value)
            self._properties.append((name, value if equals else "on"))
        if self._mixes:
            self._options.warn(
                "warning: Compatibility of ambiguous CPU model strings won't be kept on future QEMU versions"
            )

    def _warn_of_mixing(self, name: str, value: str) -> None:
        """Warn of a feature that is said in two ways."""
        for sign, is_on in (("+", True), ("-", False)):
            if (name, is_on) in self._signed:
                self._mixes = True
                self._options.warn(
                    f'warning: Ambiguous CPU model string. Don\'t mix both "{sign}{name}" and "{name}={value}"'
                )

    def _definitions(self) -> list[dict[str, Any]]:
        reply = self._release.captured("query-cpu-definitions", {}, self._machine.board.reference, {})
        listed: list[dict[str, Any]] = orjson.loads(reply) if isinstance(reply, bytes) else []
        return listed

    def _models(self) -> set[str]:
        names = {each["name"] for each in self._definitions()}
        return names | {"host"} if names else set()

    @staticmethod
    def _frequency(text: str) -> str:
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kKmMgGtTpPeE]?)[bB]?", text)
        if match is None:
            raise OptionError(f"bad numerical value {text}", NOWHERE)
        unit = 1000 ** ("kmgtpe".index(match[2].lower()) + 1) if match[2] else 1
        return str(int(float(match[1]) * unit))

    def create(self, entries: list[Entry]) -> None:
        """Make the CPUs; `entries` are the lists of `-global`.

        :raise OptionError: a property is wrong.
        """
        if not self._board.kind.has_cpus:
            return
        known = self._options.lists.properties(self._type)
        if not known:
            return
        ancestors = self._release.object_types.is_a(self._type)
        chosen = [
            (driver, entry.get("property") or "", entry.get("value") or "")
            for entry in entries
            if (driver := entry.get("driver")) in ancestors
        ]
        for driver, name, value in [*chosen, *((self._type, *pair) for pair in self._properties)]:
            try:
                self._check(name, value, known)
            except Refusal as error:
                fault = Refusal("global-failed", driver=driver, name=name, value=value, reason=error)
                raise fault.at(NOWHERE) from None
        wants_kvm = self._type == "host-x86_64-cpu"
        if wants_kvm and not self._machine.kvm:
            raise Refusal("cpu-host").at(NOWHERE)
        for name, _ in self._in_turn():
            if name not in known:
                raise OptionError(f"Property '{self._type}.{name}' not found", NOWHERE)
        signed = {name: "on" if is_on else "off" for name, is_on in self._in_turn()}
        self._options.machine.settings = replace(self._machine, cpu_properties=dict(self._properties) | signed)
        if not self._machine.kvm:
            self._warn_of_features()
        self._warn_of_vendor()
        self._check_address_bits()
        self._warn_of_threads()

    def _in_turn(self) -> list[tuple[str, bool]]:
        """The features with a sign as they are set: those that are added, then those that are taken away."""
        return sorted(self._signed, key=lambda each: not each[1])

    def _check(self, name: str, value: str, known: dict[str, str]) -> None:
        kind = known.get(name)
        if kind is None:
            raise OptionError(f"Property '{self._type}.{name}' not found")
        if name in _LIMITS:
            unsigned = self._release.behaviour.cpu_numbers_unsigned
            check_text("uint64" if unsigned else "int64", name, value, self._sizes)
            number = key_values.number(name, value)
            if number > _LIMITS[name]:
                signed = number if number < 1 << 63 else number - (1 << 64)
                raise Refusal("cpu-limit", name=name, value=signed, most=_LIMITS[name])
        elif name == "vendor" and len(value) != _VENDOR:
            raise Refusal("cpu-vendor", value=value)
        elif name == "lbr-fmt":
            check_text(kind, name, value, self._sizes)
            if key_values.number(name, value) & ~_BRANCH_FORMAT:
                raise Refusal("cpu-branch-format", mask=_BRANCH_FORMAT)
        else:
            check_text("int64" if kind == "int" else kind, name, value, self._sizes)

    def _warn_of_features(self) -> None:
        """Warn of what the emulator cannot do of what is asked for, for each CPU; with `enforce` that is too much."""
        given = {feature_name(name): value in _TRUE for name, value in self._properties}
        given |= {feature_name(name): is_on for name, is_on in self._in_turn()}
        enforced = given.get("enforce", False)
        model = self._type.removesuffix("-x86_64-cpu")
        wanted = {name for name in self._unavailable(model) if given.get(name, True)}
        wanted |= {name for name, is_on in given.items() if is_on}
        missing = [
            text
            for text in self._release.command_line.missing_features
            if text.partition(" ")[0].rpartition(".")[2] in wanted
            # Without SVM there is nothing of it, and nothing is missed.
            and (given.get("svm", True) or not text.startswith(_SVM_LEAF))
        ]
        formats = key_values.number("lbr-fmt", dict(self._properties).get("lbr-fmt", "0"))
        if given:
            lacking = tuple(text.partition(" ")[0].rpartition(".")[2] for text in missing)
            self._options.machine.settings = replace(self._machine, cpu_unavailable=lacking)
        words = self._release.refusals
        missing += [
            words.message(Refusal("cpu-capability", bit=bit)) for bit in range(_BRANCH_FORMAT.bit_length())
            if formats >> bit & 1
        ]
        if not (given.get("check", True) or enforced):
            return
        for _ in range(1 if enforced else self._machine.topology.cpus):
            for text in missing:
                self._options.warn(f"warning: TCG doesn't support requested feature: {text}")
        if missing and enforced:
            raise OptionError("TCG doesn't support requested features", NOWHERE)

    def _unavailable(self, model: str) -> list[str]:
        """What a model has that the emulator lacks."""
        for each in self._definitions():
            if each["name"] == model:
                found: list[str] = each.get("unavailable-features", [])
                return found
        return []

    def _warn_of_vendor(self) -> None:
        """Warn of a name of the hypervisor's vendor that is too long, for each CPU."""
        if not self._release.behaviour.hyperv_vendor_checked:
            return
        if len(dict(self._properties).get("hv-vendor-id", "")) > _VENDOR:
            said = self._release.refusals.message(Refusal("hyperv-vendor"))
            for _ in range(self._machine.topology.cpus):
                self._options.warn(f"warning: {said}")

    def _check_address_bits(self) -> None:
        value = dict(self._properties).get("phys-bits")
        if value is None or "lm" not in self._options.lists.properties(self._type):
            return
        bits, taken = key_values.number("phys-bits", value), self._release.behaviour.cpu_address_bits
        low, high = _ADDRESS_BITS
        if taken == "fixed" and bits not in (0, _EMULATED_BITS):
            raise Refusal("cpu-address-bits-fixed", only=_EMULATED_BITS).at(NOWHERE)
        if taken == "range" and bits and not low <= bits <= high:
            raise Refusal("cpu-address-bits", least=low, most=high, value=bits).at(NOWHERE)

    def _warn_of_threads(self) -> None:
        threads = self._machine.topology.threads
        if threads <= 1:
            return
        captured = self._release.hardware.find("cpu", self._type.removesuffix("-x86_64-cpu"))
        values = (captured or {}).get("values", {})
        vendor = dict(self._properties).get("vendor", values.get("vendor", _AMD))
        if vendor != _AMD or values.get("topoext") or ("topoext", True) in self._signed:
            return
        said = self._release.refusals.message(Refusal("cpu-hyperthreading", threads=threads))
        self._options.warn(f"warning: {said}")
