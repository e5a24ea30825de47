"""What QEMU's options make of a virtual machine.

The options are taken in QEMU's order: first each one's syntax as it stands on the line, then the actions,
then the machine's type, its memory and its CPUs.  What a release does in its own way is asked of its
`Behaviour`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from qmpd.common.identifiers import is_identifier
from qmpd.common.integers import is_digits
from qmpd.common.refusals import Refusal
from qmpd.common.scalars import has_doubtful_suffix, size_of
from qmpd.emulator.command_line.trees import device_of_json, merge
from qmpd.emulator.machine_types import find_machine
from qmpd.machine.blueprint import (
    Device,
    MachineSettings,
    PanicAction,
    RebootAction,
    ShutdownAction,
    WatchdogAction,
)
from qmpd.machine.boards import ALWAYS, USUAL
from qmpd.option_language import key_values
from qmpd.option_language.errors import NOWHERE, OptionError
from qmpd.option_language.key_values import BOOL, NUMBER, SIZE, STRING

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable, Mapping

    from qmpd.option_language.options import Given
    from qmpd.qapi.release import Release

    _Action = TypeVar("_Action", bound=enum.StrEnum)

_MEMORY = {"size": SIZE, "slots": NUMBER, "maxmem": SIZE}
_NAME = {"guest": STRING, "process": STRING, "debug-threads": BOOL}
_SMP_OTHERS = ("cpus", "maxcpus")
_ACTIONS: dict[str, type[RebootAction | ShutdownAction | PanicAction | WatchdogAction]] = {
    "reboot": RebootAction,
    "shutdown": ShutdownAction,
    "panic": PanicAction,
    "watchdog": WatchdogAction,
}
_ACTION = dict.fromkeys(_ACTIONS, STRING)
# QEMU rounds memory up to its largest page size.
_MEMORY_UNIT = 8192
_ACCELERATORS = ("tcg", "kvm", "qtest")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")


class MachineOptions:
    """Takes options one by one and makes a machine's settings of them."""

    def __init__(self, release: Release, warn: Callable[[str], None]) -> None:
        """`warn` is called with each warning, a line or more, that QEMU would print."""
        self._behaviour = release.behaviour
        self._release = release
        self._full_name = release.behaviour.usual_machine
        self._warn = warn
        # What has been found out by now.
        self.settings = MachineSettings()
        self._machine: key_values.Tree = {}
        self._machine_location: str | None = None
        self._smp: dict[str, int] = {}
        self._memory: dict[str, int] = {}
        self._memory_text: str | None = None
        self._memory_location: str | None = None
        self._actions: list[tuple[str, str, str]] = []
        self._accelerators: list[tuple[str, str]] = []
        self._identifiers: set[str] = set()
        self._handlers: dict[str, Callable[[Given], None]] = {
            "machine": self._take_machine,
            "M": self._take_machine,
            "m": self._take_memory,
            "smp": self._take_smp,
            "name": self._take_name,
            "uuid": self._take_uuid,
            "device": self._take_device,
            "S": self._take_start_paused,
            "preconfig": self._take_preconfig,
            "incoming": self._take_incoming,
            "no-reboot": lambda given: self._actions.append(("reboot", "shutdown", given.location)),
            "no-shutdown": lambda given: self._actions.append(("shutdown", "pause", given.location)),
            "action": self._take_action,
            "watchdog-action": self._take_watchdog_action,
            "accel": self._take_accelerator,
            "cpu": self._take_cpu,
        }

    @property
    def machine(self) -> key_values.Tree:
        """What all `-machine` together say."""
        return self._machine

    @property
    def machine_name(self) -> str:
        """The full name of the machine's type, once `begin` has found it."""
        return self._full_name if self.settings.board.has_cpus else self.settings.machine_type

    def merge(self, tree: key_values.Tree) -> None:
        """Add properties of the machine, a tree of keys."""
        merge(self._machine, tree)

    def take_pairs(self, pairs: list[tuple[str, str]], location: str) -> None:
        """Take what a list says about the machine, before its properties made a tree."""
        self._machine_location = location
        self._machine.update(pairs)

    def set_incoming(self, uri: str) -> None:
        """Let the machine wait for one that migrates to here."""
        self.settings = replace(self.settings, incoming=uri)

    def be_only_migratable(self) -> None:
        """Have nothing that hinders a migration."""
        self.settings = replace(self.settings, only_migratable=True)

    def set_name(self, name: str | None) -> None:
        """Call the virtual machine this."""
        if name is not None:
            self.settings = replace(self.settings, name=name)

    def take_memory(self, values: Mapping[str, str], location: str) -> None:
        """Take what a list says about the memory.

        :raise OptionError: a value is wrong.
        """
        checked = key_values.check_flat_list(list(values.items()), _MEMORY, self._behaviour.size_language)
        self._memory.update((key, int(value)) for key, value in checked.items())
        self._memory_text = values.get("size", self._memory_text)
        self._memory_location = self._memory_location or location

    def take_actions(self, pairs: list[tuple[str, str]], location: str) -> None:
        """Take what a list says is done when something happens."""
        self._actions += [(event, action, self._action_location(location)) for event, action in pairs]

    def _action_location(self, location: str) -> str:
        """Where errors about actions are placed: where the first of them was given."""
        return self._actions[0][2] if self._actions else location

    def check_actions(self) -> None:
        """Apply `-action` and its like; the second call does nothing.

        :raise OptionError: there is no such action.
        """
        for event, action, location in self._actions:
            self._set_action(event, action, location)
        self._actions.clear()

    def take(self, given: Given) -> None:
        """Take one option of `machine_options.OPTIONS`.

        :raise OptionError: its argument is wrong.
        """
        handler = self._handlers.get(given.option.name)
        if handler is not None:
            try:
                handler(given)
            except Refusal as error:
                raise error.at(given.location) from None

    def finish(self) -> MachineSettings:
        """The settings, once every option has been taken, of a machine of the usual type with the usual CPUs.

        :raise OptionError: the options are wrong together.
        """
        self.begin()
        self.finish_memory()
        self.check_slots()
        self.finish_topology()
        return self.settings

    def begin(self) -> None:
        """Find out the machine's type; what else there is to say about the machine comes later.

        :raise OptionError: there is no such type, or options exclude each other.
        """
        self.check_actions()
        settings = self.settings
        if settings.preconfig and settings.incoming is not None and not self._behaviour.keyval_options:
            raise OptionError("'preconfig' and 'incoming' options are mutually exclusive")
        machine_type = self._machine_type()
        self.settings = replace(self.settings, machine_type=machine_type)

    def finish_memory(self) -> None:
        """Find out how much memory there is.

        :raise OptionError: it cannot be had.
        """
        given = self._machine.get("memory")
        if isinstance(given, dict) and "size" not in self._memory:
            self._memory |= {
                name: key_values.size(f"memory.{name}", text, self._behaviour.size_language)
                for name, member in (("size", "size"), ("slots", "slots"), ("maxmem", "max-size"))
                if isinstance(text := given.get(member), str)
            }
        size = self._memory_size()
        self.settings = replace(self.settings, memory=size)

    def finish_topology(self) -> None:
        """Find out how the CPUs are arranged.

        :raise OptionError: it cannot be had.
        """
        from qmpd.emulator.phases.topology import arrange

        topology = arrange(
            self._smp_counts(),
            self.settings.board,
            self.machine_name,
            self._behaviour,
            lambda text: self._warn(f"warning: {text}"),
            self._most_cpus(),
        )
        self.settings = replace(self.settings, topology=topology)

    def _most_cpus(self) -> int | None:
        """How many CPUs the machine can have; None where the release does not tell."""
        if not self.settings.machine_name:
            return None
        known = find_machine(self._release, self._full_name)
        return None if known is None else known.get("cpu-max")

    @property
    def incoming(self) -> str | None:
        """What `-incoming` says."""
        return self.settings.incoming

    @property
    def has_memory_size(self) -> bool:
        """Whether an option says how much memory there is."""
        memory = self._machine.get("memory")
        return bool(self._memory.get("size")) or (isinstance(memory, dict) and "size" in memory)

    @property
    def wants_slots(self) -> bool:
        """Whether memory could be added."""
        return bool(self._memory.get("slots")) or self._memory.get("maxmem", 0) > self.settings.memory

    def check_slots(self) -> None:
        """See whether the machine can have that many slots for memory.

        :raise OptionError: it cannot.
        """
        slots, most = self._memory.get("slots"), self.settings.board.most_slots
        if slots is not None and most is not None and slots > most:
            raise OptionError(f"unsupported amount of memory slots: {slots}", location=NOWHERE)

    def _flat_list(
        self, given: Given, implied: str | None = None, types: Mapping[str, str] | None = None
    ) -> list[tuple[str, str]]:
        """The pairs of a list; with `types` there is one such list alone, and each pair is looked at in turn."""
        def warn(flag: str, instead: str) -> None:
            if self._behaviour.keyval_options:
                self._warn(
                    f"{given.location}: warning: short-form boolean option '{flag}' deprecated\n"
                    f"Please use {instead} instead"
                )

        if types is None or not self._behaviour.keyval_options:
            return key_values.flat_list(given.value, implied, warn)
        if "id" in dict(key_values.flat_list(given.value)):
            raise Refusal("option-unknown", name="id")
        pairs: list[tuple[str, str]] = []
        for number, piece in enumerate(key_values.split_flat_list(given.value, implied)):
            for pair in key_values.flat_list(f"{piece},", None if number else implied, warn):
                key_values.check_flat_list([pair], types, self._behaviour.size_language)
                pairs.append(pair)
        return pairs

    def _without_id(self, pairs: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], bool]:
        """The pairs but an id, and whether there is one: a list that has one is nobody's, where it may have one."""
        if self._behaviour.keyval_options or "id" not in dict(pairs):
            return pairs, False
        return [pair for pair in pairs if pair[0] != "id"], True

    # -- one option each

    def _take_machine(self, given: Given) -> None:
        self._machine_location = given.location
        if self._behaviour.keyval_options:
            merge(self._machine, key_values.tree(given.value, "type"))
        else:
            pairs = key_values.flat_list(given.value, "type")
            if "id" not in dict(pairs):
                self._machine.update(pairs)

    def _take_smp(self, given: Given) -> None:
        if self._behaviour.keyval_options:
            merge(self._machine, {"smp": key_values.tree(given.value, "cpus")})
            return
        types = dict.fromkeys((*self._behaviour.smp_levels.split(","), *_SMP_OTHERS), NUMBER)
        pairs, is_aside = self._without_id(self._flat_list(given, "cpus"))
        counts = {key: int(value) & 0xFFFFFFFF for key, value in key_values.check_flat_list(pairs, types).items()}
        if not is_aside:
            self._smp |= counts

    def _take_memory(self, given: Given) -> None:
        pairs, is_aside = self._without_id(self._flat_list(given, "size", _MEMORY))
        values = key_values.check_flat_list(pairs, _MEMORY, self._behaviour.size_language)
        for key, value in pairs:
            if _MEMORY.get(key) == key_values.SIZE:
                self._warn_of_suffix(value, f"{given.location}: ")
        if is_aside:
            return
        self._memory.update((key, int(value)) for key, value in values.items())
        self._memory_text = dict(pairs).get("size", self._memory_text)
        self._memory_location = self._memory_location or given.location

    def _take_name(self, given: Given) -> None:
        values = key_values.check_flat_list(self._without_id(self._flat_list(given, "guest", _NAME))[0], _NAME)
        if "guest" in values:
            self.settings = replace(self.settings, name=str(values["guest"]))

    def _take_uuid(self, given: Given) -> None:
        if _UUID.match(given.value) is None:
            raise OptionError("failed to parse UUID string: wrong format")
        self.settings = replace(self.settings, uuid=given.value.lower())

    def _take_device(self, given: Given) -> None:
        if given.value.startswith("{") and self._behaviour.keyval_options:
            properties = device_of_json(given.value, self._behaviour.json_parser)
        else:
            properties = dict(self._flat_list(given, "driver"))
        identifier = properties.get("id")
        if identifier is not None:
            if not is_identifier(identifier):
                raise Refusal("identifier-expected", name="id")
            if identifier in self._identifiers:
                raise OptionError(f"Duplicate ID '{identifier}' for device")
            self._identifiers.add(identifier)
        driver = properties.pop("driver", None)
        if driver is None:
            raise OptionError("Parameter 'driver' is missing")
        device = Device(driver=driver, properties=properties, location=given.location)
        self.settings = replace(self.settings, devices=(*self.settings.devices, device))

    def _take_start_paused(self, _given: Given) -> None:
        self.settings = replace(self.settings, start_paused=True)

    def _take_preconfig(self, _given: Given) -> None:
        self.settings = replace(self.settings, preconfig=True)

    def _take_incoming(self, given: Given) -> None:
        uri = given.value
        if uri != "defer":
            from qmpd.emulator.reading.incoming import take_incoming

            if ":" not in uri:
                raise OptionError(self._behaviour.unknown_incoming.format(uri=uri))
            take_incoming(self._release, uri, self._warn)
        self.settings = replace(self.settings, incoming=uri)

    def _take_action(self, given: Given) -> None:
        if not self._behaviour.keyval_options:
            raise OptionError("invalid option", given.spelled)
        pairs = self._flat_list(given)
        key_values.check_flat_list(pairs, _ACTION)
        self._actions += [(event, action, given.location) for event, action in pairs]

    def _take_watchdog_action(self, given: Given) -> None:
        action = given.value
        if not self._behaviour.keyval_options:
            action = action.lower()
            if action not in {known.value for known in WatchdogAction}:
                raise OptionError("unknown -watchdog-action parameter")
        self._actions.append(("watchdog", action, given.location))

    def _take_accelerator(self, given: Given) -> None:
        self._accelerators.append((dict(self._flat_list(given, "accel")).get("accel", ""), given.location))

    def _take_cpu(self, given: Given) -> None:
        if not given.value:
            raise OptionError("-cpu option cannot be empty", location=NOWHERE)
        self.settings = replace(self.settings, cpu_model=given.value.split(",")[0])

    # -- the options together

    def _set_action(self, event: str, value: str, location: str) -> None:
        try:
            action = _ACTIONS[event](value)
        except ValueError:
            raise OptionError(f"Parameter '{event}' does not accept value '{value}'", location) from None
        change: dict[str, Any] = {event: action}
        self.settings = replace(self.settings, **change)

    def _machine_type(self) -> str:
        name = str(self._machine.get("type", USUAL))
        if name == self._full_name:
            return USUAL
        if name in ALWAYS:
            return name
        known = find_machine(self._release, name)
        if known is not None:
            self._full_name = known["name"]
            self.settings = replace(self.settings, machine_name=self._full_name)
            return USUAL
        raise OptionError(
            self._behaviour.unknown_machine.format(name=name),
            None if self._behaviour.keyval_options else self._machine_location,
            ("Use -machine help to list supported machines",),
        )

    def _memory_size(self) -> int:
        """The bytes of memory: QEMU's default where none or nothing was asked for."""
        default = self.settings.board.memory
        size = self._memory.get("size", 0)
        if self._memory_text is not None:
            # A number alone means MiB, which only this option knows.
            text = f"{self._memory_text}M" if is_digits(self._memory_text[-1:]) else self._memory_text
            self._warn_of_suffix(text)
            try:
                size = size_of(text, self._behaviour.size_language)
            except (ValueError, OverflowError):
                raise Refusal("size-expected", name="memory.size") from None
        size = (size + _MEMORY_UNIT - 1) // _MEMORY_UNIT * _MEMORY_UNIT % (1 << 64) or default
        try:
            self._check_memory_limit(size)
        except OptionError as error:
            if not self._behaviour.keyval_options and self._memory_location is not None:
                raise error.at(self._memory_location) from None
            raise
        return size

    def _warn_of_suffix(self, text: str, prefix: str = "") -> None:
        if has_doubtful_suffix(text, self._behaviour.size_language):
            said = self._release.refusals.message(Refusal("size-suffix-deprecated", text=text))
            self._warn(f"{prefix}warning: {said}")

    def _check_memory_limit(self, size: int) -> None:
        option = "" if self._behaviour.keyval_options else "-m option "
        slots, limit = self._memory.get("slots"), self._memory.get("maxmem")
        if limit is None:
            if slots is not None:
                raise OptionError(
                    f"invalid {option}value: missing 'maxmem' option" if option else "slots specified but no max-size"
                )
        elif limit < size:
            raise OptionError(
                f"invalid value of {option}maxmem: maximum memory size (0x{limit:x}) must be at least "
                f"the initial memory size (0x{size:x})"
            )
        elif slots and limit == size:
            raise OptionError(
                f"invalid value of {option}maxmem: memory slots were specified but maximum memory size "
                f"(0x{limit:x}) is equal to the initial memory size (0x{size:x})"
            )
        self.settings = replace(self.settings, memory_slots=slots or 0, memory_limit=limit or 0)

    def choose_accelerator(self) -> None:
        """Find out whether KVM accelerates the machine, where no other reader looks at the accelerators.

        :raise OptionError: there is no such accelerator, or two options say which.
        """
        listed = self._machine.get("accel")
        names = [name for name, _ in self._accelerators]
        if isinstance(listed, str):
            if names:
                raise OptionError('The -accel and "-machine accel=" options are incompatible')
            names = [name for name in listed.split(":") if name in _ACCELERATORS]
            if not names:
                first = listed.partition(":")[0]
                raise OptionError(f"invalid accelerator {first}" if listed else "no accelerator found")
        for name, location in self._accelerators:
            if name not in _ACCELERATORS:
                raise OptionError(f"invalid accelerator {name}", location)
        self.settings = replace(self.settings, kvm=names[:1] == ["kvm"])

    def _smp_counts(self) -> dict[str, int]:
        tree = self._machine.get("smp", {}) if self._behaviour.keyval_options else {}
        if isinstance(tree, str):
            raise OptionError("Invalid parameter type for 'smp', expected: object")
        known = (*_SMP_OTHERS, *self._behaviour.smp_levels.split(","))
        # Known keys are read in their own order, unknown ones are noticed last.
        for key in known:
            value = tree.get(key)
            if isinstance(value, dict):
                raise Refusal("keys-unexpected", path=f"smp.{key}")
            if value is not None:
                self._smp[key] = key_values.signed_integer(f"smp.{key}", value) & 0xFFFFFFFF
        for key in tree:
            if key not in known:
                raise OptionError(f"Parameter 'smp.{key}' is unexpected")
        return self._smp
