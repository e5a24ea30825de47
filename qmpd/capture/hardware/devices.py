"""What devices are made of: every type that can be added is added once, on a machine where all it needs is there."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from qmpd.capture.client import CaptureError, Gone, Program, Refused
from qmpd.capture.hardware.device_refusals import hot_facts, is_hot, is_of_system
from qmpd.capture.hardware.device_tree import Trees, look
from qmpd.capture.hardware.insertion import Variant, by_number, insertion_order, of_bus
from qmpd.capture.hardware.notation import Shapes, entry
from qmpd.capture.hardware.walk import READ_ONLY, Seen, replace_in, try_setting, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from qmpd.capture.client import Client
    from qmpd.capture.hardware.insertion import Names

_TYPE = re.compile(r'name "([^"]+)"(?:, bus ([^,]+))?(?:, alias "([^"]+)")?(?:, desc "(.*)")?(, no-user)?\Z')
_NO_BUS = re.compile(r"No '(.+)' bus found for device '.+'")
_PERIPHERAL = "/machine/peripheral"
# What ids begin with, that are part of nothing else.
_ID, _OTHER_IDS = "zqdevice", ("zqb", "zq-longer-one-", "zqQ.")
_PROVIDER = "zqprovider"
_MACHINE = [
    "-machine", "pc,nvdimm=on", "-accel", "tcg", "-m", "32,slots=4,maxmem=4G", "-display", "none", "-nodefaults", "-S",
    "-chardev", "null,id=zqchardev", "-object", "memory-backend-ram,id=zqmemory,size=64M",
    "-blockdev", "driver=null-co,node-name=zqdrive", "-audiodev", "none,id=zqaudio",
    "-object", "rng-builtin,id=zqrng", "-object", "cryptodev-backend-builtin,id=zqcrypto",
    "-netdev", "hubport,hubid=0,id=zqnet", "-object", "can-bus,id=zqcan", "-fsdev", "synth,id=zqfiles",
    "-device", "ipmi-bmc-sim,id=zqbmc",
]  # fmt: skip
# What a property may have to be set to; tried in this order, one at a time and then together.
_FILLERS: dict[str, Any] = {
    "drive": "zqdrive",
    "memdev": "zqmemory",
    "chardev": "zqchardev",
    "audiodev": "zqaudio",
    "rng": "zqrng",
    "cryptodev": "zqcrypto",
    "serial": "1",
    "chassis": 1,
    "chassis_nr": 1,
    "canbus": "zqcan",
    "canbus0": "zqcan",
    "canbus1": "zqcan",
    "bmc": "/machine/peripheral/zqbmc",
    "fsdev": "zqfiles",
    "mount_tag": "zq",
}
_BUS_MASTER = "bus master[0]"
# What a PCI device makes of itself, and then a bridge of its own, in this order (hw/pci/pci.c, hw/pci/pci_bridge.c).
_MADE = (
    "bus master container[0]", _BUS_MASTER, "«id»", "pci_bridge_pci[0]", "pci_bridge_io[0]", "pci_bridge_pref_mem[0]",
    "pci_bridge_mem[0]", "pci_bridge_io[1]", "pci_bridge_vga_io_lo[0]", "pci_bridge_vga_io_hi[0]",
    "pci_bridge_vga_mem[0]", "shpc-bar[0]", "shpc-mmio[0]",
)  # fmt: skip
_SEARCH = 400
# What query-pci says of where a device is, and not of what it is.
_PLACE = frozenset({"bus", "slot", "function", "qdev_id"})
# And the other queries of what is one device's alone, or of the node below it.
_OWN = frozenset({"name", "main-mac"})
_OF_NODE = frozenset({"inserted", "node-name", "parent", "backing"})


class DeviceType(NamedTuple):
    """A type of device as `info qdm` lists it."""

    name: str
    bus: str | None
    alias: str | None
    user: bool


class _Attempt(NamedTuple):
    """What came of adding a device of that id: the text of the refusal, or nothing and the object.

    `shown` is what queries say of it, `consoles` are those that it brings; `cold`: it was added before the machine
    existed; `hot` is the text that refuses it later.
    """

    name: str
    refusal: str | None
    seen: Seen | None = None
    shown: dict[str, Any] | None = None
    consoles: tuple[Seen, ...] = ()
    cold: bool = False
    hot: str | None = None


def device_types(client: Client) -> list[DeviceType]:
    """The types of devices that the program has."""
    text = client.ask("human-monitor-command", {"command-line": "info qdm"}).result
    matches = [_TYPE.match(line.strip()) for line in text.splitlines()]
    return sorted(
        {DeviceType(match[1], match[2], match[3], match[5] is None) for match in matches if match is not None}
    )


class Devices:
    """Adds devices to a program's machines and takes down what they are."""

    def __init__(
        self, command: str, buses: dict[str, frozenset[str]], shapes: Shapes, report: Callable[[str], None]
    ) -> None:
        """`buses` says of each type that is a bus what it is."""
        self._command = command
        self._buses = buses
        self._shapes = shapes
        self._report = report
        self._options = _supported(command, _MACHINE)
        # A type that brings a bus of this type; found as they are taken down.
        self._providers: dict[str, list[str]] = {}
        self._hot_providers: dict[str, int] = {}
        # What refuses to add a type while the machine exists.
        self._hot_refusals: dict[str, str] = {}
        # A machine that has no device but these, by what provides a bus on it.
        self._fresh: dict[str | None, Program] = {}
        self._added = 0
        self.trees = Trees()

    def lines(self, only: Container[str] | None = None) -> Iterator[bytes]:
        """The lines of all types, or `only` of those with these names.

        :raise CaptureError: the program does not start.
        """
        try:
            types = device_types(self._bench(None).client)
            yield from self._lines([each for each in types if only is None or each.name in only])
        finally:
            for program in self._fresh.values():
                program.close()

    def _lines(self, types: list[DeviceType]) -> Iterator[bytes]:
        waiting = [each for each in types if not each.name.endswith("-x86_64-cpu")]
        found: dict[str, bytes] = {}
        for _ in range(3):
            later = []
            for each in waiting:
                line = self._line(each)
                if line is None:
                    later.append(each)
                else:
                    found[each.name] = line
            if len(later) == len(waiting):
                break
            waiting = later
        for each in waiting:
            # No bus was found that it could be put on.
            hot = self._hot_refusals.get(each.name)
            found[each.name] = entry("device", each.name, self._facts(each) | hot_facts(hot))
        yield from (found[name] for name in sorted(found))
        yield from (entry("alias", each.alias, {"type": each.name}) for each in types if each.alias is not None)

    def _facts(self, kind: DeviceType) -> dict[str, Any]:
        facts: dict[str, Any] = {"bus": kind.bus} if kind.bus is not None else {}
        if not kind.user:
            facts["user"] = False
        return facts

    def _line(self, kind: DeviceType) -> bytes | None:
        """The line of a type; None where it needs a bus that no device is known to bring."""
        facts = self._facts(kind)
        if not kind.user:
            return entry("device", kind.name, facts)
        bare = _Attempt("", "")
        for provider in (None, *self._providers.get(kind.bus or "", ())):
            bare = self._add(kind, {}, provider)
            if bare.refusal is None or not (_NO_BUS.fullmatch(bare.refusal) or "speed mismatch" in bare.refusal):
                break
        else:
            if bare.hot is not None:
                self._hot_refusals[kind.name] = bare.hot
            return None
        chosen, words = bare, {}
        if bare.refusal is not None:
            for words in self._fillings(kind):
                chosen = self._add(kind, words, provider, cold=bare.cold)
                if chosen.refusal is None:
                    facts["with"] = words
                    break
        facts |= hot_facts(bare.hot)
        if bare.refusal is not None:
            facts["refusal"] = bare.refusal
            if is_of_system(bare.refusal):
                facts["system"] = True
        if chosen.seen is None:
            return entry("device", kind.name, facts)
        cold: dict[str, Names] = {}
        consoles = chosen.consoles
        if not chosen.cold:
            cold, consoles = self._seen_cold(kind, chosen, facts.get("with", {}), provider)
        facts["tree"] = self._node(kind, chosen, facts.get("with", {}), provider, cold)
        if len(cold) == 1:
            facts.update(_other_order(chosen.seen.names(), *cold.values()))
        facts.update(chosen.shown or {})
        if chosen.consoles:
            path = f"{_PERIPHERAL}/{chosen.name}"
            facts["consoles"] = [self._shapes.node(_anonymous(each, chosen.name, path), {}) for each in chosen.consoles]
        elif consoles:
            facts["cold-consoles"] = [self._shapes.node(each, {}) for each in consoles]
        if chosen is bare and provider is None:
            self._provide(kind, chosen)
        return entry("device", kind.name, facts)

    def _provide(self, kind: DeviceType, attempt: _Attempt) -> None:
        """Keep in mind which buses a device brings; first come those that can be plugged in."""
        assert attempt.seen is not None
        for _, seen in attempt.seen.below():
            for bus in self._buses.get(seen.type, ()):
                providers = self._providers.setdefault(bus, [])
                if kind.name not in providers:
                    providers.insert(len(providers) if attempt.cold else self._hot_providers.get(bus, 0), kind.name)
                    if not attempt.cold:
                        self._hot_providers[bus] = self._hot_providers.get(bus, 0) + 1

    def _add(self, kind: DeviceType, words: dict[str, Any], provider: str | None, *, cold: bool = False) -> _Attempt:
        """Add a device while the machine exists, or before where that is the only way."""
        hot = None if cold else self._add_hot(kind, words, provider)
        if hot is not None and (hot.refusal is None or not is_hot(hot.refusal)):
            return hot
        attempt = self._add_cold(kind, words, provider)
        return attempt._replace(cold=True, hot=None if hot is None else hot.refusal)

    def _fillings(self, kind: DeviceType) -> Iterator[dict[str, Any]]:
        """What may have to be set: each filler that the type has a property for, then pairs of them."""
        try:
            listed = self._bench(None).client.ask("device-list-properties", {"typename": kind.name})
        except Gone:
            self._forget(None)
            return
        names = {each["name"] for each in listed.result} if listed.value is not None else set()
        fitting = [name for name in _FILLERS if name in names]
        for name in fitting:
            yield {name: _FILLERS[name]}
        for place, name in enumerate(fitting):
            for other in fitting[place + 1 :]:
                yield {name: _FILLERS[name], other: _FILLERS[other]}

    def _start(self, more: list[str]) -> Program:
        return Program(self._command, [*self._options, *more])

    def _bench(self, provider: str | None) -> Program:
        """A running machine without any other device."""
        program = self._fresh.get(provider)
        if program is None:
            program = self._fresh[provider] = self._start(self._provided(provider))
        return program

    def _forget(self, provider: str | None) -> None:
        program = self._fresh.pop(provider, None)
        if program is not None:
            program.close()

    def _provided(self, provider: str | None) -> list[str]:
        return [] if provider is None else ["-device", f"{provider},id={_PROVIDER}"]

    def _new_id(self, stem: str) -> str:
        """An id that no device had: some releases keep them for a while."""
        self._added += 1
        return f"{stem}{self._added}"

    def _add_hot(self, kind: DeviceType, words: dict[str, Any], provider: str | None, stem: str = _ID) -> _Attempt:
        again = provider in self._fresh
        try:
            return self._try_hot(kind, words, provider, self._new_id(stem))
        except Gone:
            # A machine that has seen devices come and go may not survive the next one.
            self._forget(provider)
        try:
            if again:
                return self._try_hot(kind, words, provider, self._new_id(stem))
        except Gone:
            self._forget(provider)
        self._report(f"adding {kind.name} ends the program")
        return _Attempt("", "qmpd: the program ended")

    def _try_hot(self, kind: DeviceType, words: dict[str, Any], provider: str | None, name: str) -> _Attempt:
        client = self._bench(provider).client
        outcome = client.ask("device_add", {"driver": kind.name, "id": name, **words})
        if outcome.value is None:
            return _Attempt(name, outcome.description.replace(name, "«id»"))
        attempt = self._look(client, name)
        if not _is_removed(client, name):
            self._forget(provider)
        return attempt

    def _add_cold(self, kind: DeviceType, words: dict[str, Any], provider: str | None, stem: str = _ID) -> _Attempt:
        name = self._new_id(stem)
        device = ",".join([kind.name, f"id={name}", *(f"{key}={value}" for key, value in words.items())])
        try:
            with self._start([*self._provided(provider), "-device", device]) as program:
                return self._look(program.client, name)
        except Refused as error:
            said = [line for line in error.said if device in line]
            # Where that is told of no option, the program's name stands before it.
            text = said[-1].partition(f"-device {device}: ")[2] if said else str(error).rpartition(": ")[2]
            return _Attempt(name, text.replace(name, "«id»"))
        except Gone as error:
            return _Attempt(name, f"qmpd: {error}")

    def _seen_cold(
        self, kind: DeviceType, attempt: _Attempt, words: dict[str, Any], provider: str | None
    ) -> tuple[dict[str, Names], tuple[Seen, ...]]:
        """The properties of a PCI device that is there before the machine is, by its id, and the consoles of the first.

        One of them comes to be only when the machine is ready.  One id will do unless a property has a name after it.
        """
        assert attempt.seen is not None
        if _BUS_MASTER not in attempt.seen.names():
            return {}, ()
        stems = (_ID, *_OTHER_IDS) if any(attempt.name in name for name in attempt.seen.names()) else (_ID,)
        found: dict[str, Names] = {}
        consoles: tuple[Seen, ...] = ()
        for name in map(self._new_id, stems):
            device = ",".join([kind.name, f"id={name}", *(f"{key}={value}" for key, value in words.items())])
            path = f"{_PERIPHERAL}/{name}"
            with suppress(Refused, Gone), self._start([*self._provided(provider), "-device", device]) as program:
                listed = program.client.ask("qom-list", {"path": path})
                if listed.value is not None:
                    seen = _consoles(program.client, path)
                    consoles = consoles or tuple(_anonymous(each, name, path) for each in seen)
                    found[name] = [each["name"] for each in listed.result]
        return found, consoles

    def _look(self, client: Client, name: str) -> _Attempt:
        path = f"{_PERIPHERAL}/{name}"
        look(client, self.trees)
        seen = walk(client, path)
        shown = _shown(client, path, name)
        consoles = _consoles(client, path)
        if seen is not None:
            with suppress(Gone):
                try_setting(client, path, seen, name)
        return _Attempt(name, None, seen, shown, consoles)

    def _node(
        self,
        kind: DeviceType,
        attempt: _Attempt,
        words: dict[str, Any],
        provider: str | None,
        cold: dict[str, Names],
    ) -> Any:
        """The object of the device, with markers for its path and its id.

        `cold` are its properties where it is there before the machine is.
        """
        assert attempt.seen is not None
        seen = _anonymous(attempt.seen, attempt.name)
        growing: dict[int, tuple[int, Names]] = {}
        for _, each in seen.below():
            if each.type in self._buses or each.type == "container":
                inserted = each.names()[:0:-1]
                starts = [of_bus(inserted), inserted, by_number(inserted)]
                order, _ = insertion_order([Variant(list, inserted)], starts, _SEARCH)
                growing[id(each)] = (1, order)
        named = [(path, each) for path, each in seen.below() if any("«id»" in name for name in each.names())]
        if named:
            again = self._add_cold if attempt.cold else self._add_hot
            attempts = [attempt, *(again(kind, words, provider, stem) for stem in _OTHER_IDS)]
            for path, each in named:
                found = {
                    one.name: there
                    for one in attempts
                    if one.seen is not None and (there := one.seen.at(path.replace("«id»", one.name))) is not None
                }
                growing[id(each)] = self._boundary(kind, found, {} if path else cold)
        return self._shapes.node(seen, growing)

    def _boundary(self, kind: DeviceType, seen: dict[str, Seen], cold: dict[str, Names]) -> tuple[int, Names]:
        """How many properties are the class's, and in which order the others came, their names with markers.

        `seen` is the same object of several devices, by their ids; `cold` are the properties of some that are there
        before the machine is.
        """
        first = next(iter(seen))
        properties = seen[first].properties
        first_child = min(place for place, (_, of) in enumerate(properties) if of.startswith("child<"))
        # What comes out at once is tried first: a search takes time.
        for attempts, boundary in product((0, _SEARCH), range(1, first_child + 1)):
            walks = {name: each.names()[: boundary - 1 : -1] for name, each in seen.items()}
            variants = [Variant(partial(_named, name), walked) for name, walked in walks.items()]
            variants += [
                Variant(partial(_cold_named, name), names[: boundary - 1 : -1]) for name, names in cold.items()
            ]
            marked = [name.replace(first, "«id»") for name in walks[first]]
            order, exact = insertion_order(variants, [marked, by_number(marked), *_as_made(marked)], attempts)
            if exact:
                return boundary, order
        self._report(f"the order of the properties of {kind.name} is not found")
        return first_child, [name.replace(first, "«id»") for name, _ in reversed(properties[first_child:])]


def _named(name: str, names: Names) -> Names:
    return [each.replace("«id»", name) for each in names]


def _as_made(names: Names) -> Iterator[Names]:
    """Names in the orders in which PCI devices and bridges make them, as far as known; a bus comes first or last."""
    known = [name for name in _MADE if name in names]
    rest = [name for name in names if name not in known]
    for others in (rest, rest[::-1], by_number(rest)):
        yield [*known, *others]
        if "«id»" in known:
            yield [*(name for name in known if name != "«id»"), *others, "«id»"]


def _cold_named(name: str, names: Names) -> Names:
    """The same where what comes to be when the machine is ready is the last."""
    return [*(each for each in _named(name, names) if each != _BUS_MASTER), _BUS_MASTER]


def _other_order(names: Names, cold: Names) -> dict[str, Names]:
    """The part in which the second order differs, as `cold`; nothing where they are the same."""
    places = [place for place, (one, other) in enumerate(zip(names, cold, strict=True)) if one != other]
    return {"cold": cold[places[0] : places[-1] + 1]} if places else {}


def _anonymous(seen: Seen, name: str, path: str | None = None) -> Seen:
    """The object with markers in place of its id and its path."""
    path = path or f"{_PERIPHERAL}/{name}"
    table = {path: "«self»", name: "«id»"}
    return replace(
        seen,
        properties=[(each.replace(name, "«id»"), kind) for each, kind in seen.properties],
        values=replace_in({each.replace(name, "«id»"): value for each, value in seen.values.items()}, table),
        errors=replace_in({each.replace(name, "«id»"): text for each, text in seen.errors.items()}, table),
        codes={each.replace(name, "«id»"): code for each, code in replace_in(seen.codes, table).items()},
        children={each.replace(name, "«id»"): _anonymous(child, name, path) for each, child in seen.children.items()},
    )


def _is_removed(client: Client, name: str) -> bool:
    """Take a device away again; whether that was possible.  What the guest would have to let go of, a reset takes."""
    path = {"path": f"{_PERIPHERAL}/{name}"}
    try:
        if client.ask("device_del", {"id": name}).value is None:
            return False
        if client.ask("qom-list", path).value is not None:
            client.ask("system_reset")
            client.ask("query-status")
        return client.ask("qom-list", path).value is None
    except Gone:
        return False


def _consoles(client: Client, path: str) -> tuple[Seen, ...]:
    """The consoles of the device at `path`."""
    backend = walk(client, "/backend")
    below = [] if backend is None else list(backend.children.values())
    consoles = tuple(each for each in below if each.values.get("device") == path)
    for each in consoles:
        each.codes.update(dict.fromkeys(each.names(), READ_ONLY))
    return consoles


def _shown(client: Client, path: str, name: str) -> dict[str, Any]:
    """What queries say of a device, without what is not its own."""
    shown: dict[str, Any] = {}
    table = {path: "«self»", name: "«id»"}
    for bus in client.ask("query-pci").result:
        for each in _pci_devices(bus["devices"]):
            if each["qdev_id"] == name:
                shown["pci"] = {key: value for key, value in each.items() if key not in _PLACE}
    filtering = client.ask("query-rx-filter", {"name": name})
    if filtering.value is not None:
        (said,) = filtering.result
        shown["rx-filter"] = {key: value for key, value in said.items() if key not in _OWN}
    for command, member in (("query-block", "block"), ("query-blockstats", "blockstats")):
        for each in client.ask(command).result:
            if each.get("qdev") == name or each.get("qdev", "").startswith(path):
                entry = {key: value for key, value in each.items() if key not in _OF_NODE}
                shown[member] = replace_in(entry, table)
    return shown


def _pci_devices(devices: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for each in devices:
        yield each
        yield from _pci_devices(each.get("pci_bridge", {}).get("devices", []))


def _supported(command: str, options: list[str]) -> list[str]:
    """The options without the backends that the program does not know."""
    kept = options[: options.index("-chardev")]
    rest = options[len(kept) :]
    for option, value in zip(rest[::2], rest[1::2], strict=True):
        try:
            with Program(command, [*kept, option, value]):
                kept = [*kept, option, value]
        except CaptureError:
            continue
    return kept
