"""Options of QEMU that are looked at as soon as they are read, each in a way of its own.

What each takes, and what it says to what it does not take, was measured on the releases; the groups' keys are captured.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from qmpd.common.integers import INTEGER_RANGES
from qmpd.common.refusals import Refusal
from qmpd.common.scalars import SPACE, integer_of
from qmpd.emulator.reading.firmware_tables import whole_number
from qmpd.option_language import key_values, typed_values
from qmpd.option_language.errors import OptionError, OptionList
from qmpd.option_language.groups import HELP
from qmpd.option_language.key_values import BOOL
from qmpd.qapi import load_release, release_names
from qmpd.qapi.introspection import Enumeration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qmpd.emulator.reading.kept import KeptOptions
    from qmpd.option_language.options import Given
    from qmpd.qapi import Release

_AUDIO = frozenset(
    ("none", "alsa", "coreaudio", "dbus", "dsound", "jack", "oss", "pa", "pipewire", "sdl", "sndio", "spice", "wav")
)
_ABOUT_AUDIO = "query-audiodevs"
_COMPAT = {
    "deprecated-input": ("accept", "reject", "crash"),
    "deprecated-output": ("accept", "hide"),
    "unstable-input": ("accept", "reject", "crash"),
    "unstable-output": ("accept", "hide"),
}
_ROTATIONS = (0, 90, 180, 270)
# What C's `strtol` reads of a text.
_C_INTEGER = re.compile(rf"[{SPACE}]*[-+]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[0-9]+)")


class Singles:
    """Takes these options for a command line."""

    def __init__(self, options: KeptOptions) -> None:
        self._options = options
        self._release = options.release
        self._plugin = False
        self.plugins: list[str] = []
        self.audio_cards: list[str] = []
        self.audio_backends: dict[str, str] = {}
        self.audio_id_twice: str | None = None
        self.display_type = ""

    # What is seen and heard

    def audio_backend(self, given: Given) -> None:
        """`-audiodev`.

        :raise OptionError: it is wrong.
        """
        if given.value in HELP:
            raise self._options.lists.listed("-audiodev")
        if given.value.startswith("{"):
            values = self._json(given.value)
        else:
            values = {**key_values.tree(given.value, "driver")}
        self._add_audio(values, is_json=given.value.startswith("{"))

    def _tellers(self) -> Iterator[Release]:
        """The release, and then the others, the oldest first."""
        yield self._release
        yield from map(load_release, release_names())

    def _add_audio(self, values: dict[str, object], *, is_json: bool) -> None:
        # Before there was a query for it nothing told of the type, which had the same members.
        release = next(each for each in self._tellers() if _ABOUT_AUDIO in each.commands)
        declared = typed_values.returned_type(release, _ABOUT_AUDIO)
        driver = values.get("driver")
        known = () if declared is None else self._drivers(release, declared)
        if declared is not None and (driver not in _AUDIO or driver in known):
            values = typed_values.check(release, declared, values, is_text=not is_json)
        else:
            for name in ("id", "driver"):
                if name not in values:
                    raise OptionError(f"Parameter '{name}' is missing")
            if driver not in _AUDIO:
                raise OptionError(f"Parameter 'driver' does not accept value '{driver}'")
        identifier = str(values["id"])
        if identifier in self.audio_backends and self.audio_id_twice is None:
            self.audio_id_twice = identifier
        self.audio_backends[identifier] = str(values["driver"])

    @staticmethod
    def _drivers(release: Release, declared: str) -> tuple[str, ...]:
        found = release.introspection.type(release.introspection.object(declared).member("driver").type)
        return found.values if isinstance(found, Enumeration) else ()

    def audio(self, given: Given) -> None:
        """`-audio`: a backend, and a card that uses it.

        :raise OptionError: it is wrong.
        """
        pieces = list(key_values.split_flat_list(given.value))
        if any(piece in HELP for piece in pieces) or "driver=help" in pieces:
            raise self._options.lists.listed("-audiodev")
        values: dict[str, object] = {**key_values.tree(given.value, "driver")}
        values.setdefault("id", "audiodev0")
        if "model" not in values:
            if not self._release.behaviour.audio_without_model:
                raise OptionError("Parameter 'model' is missing")
            self._add_audio(values, is_json=False)
            return
        model = str(values.pop("model"))
        cards = self._options.lists.text("-audio", "none,model=help") or ""
        if model in HELP:
            raise OptionList(cards, 0)
        self._add_audio(values, is_json=False)
        if model not in self._options.lists.choices("sound-cards"):
            said = self._release.refusals.message(Refusal("audio-model", model=model))
            raise OptionList(cards, 1, (self._place(given) + said,))
        self.audio_cards.append(model)

    def _place(self, given: Given) -> str:
        return f"{self._options.complaints.program}: {given.location}: "

    def display(self, given: Given) -> None:
        """`-display`.

        :raise OptionError: it is wrong.
        """
        text = given.value
        if text in HELP:
            raise self._options.lists.listed("-display")
        if text.startswith("vnc"):
            if not text.startswith("vnc="):
                raise OptionError("VNC requires a display argument vnc=<display>")
            self.vnc(given._replace(value=text.removeprefix("vnc=")), given.location)
            return
        declared = typed_values.returned_type(self._release, "query-display-options")
        if declared is None:
            return
        if text.startswith("{"):
            values = typed_values.from_json(self._release, declared, text)
        else:
            values = typed_values.from_tree(self._release, declared, key_values.tree(text, "type"))
        self.display_type = str(values["type"])
        self._options.values["display"] = self.display_type
        for name in ("gl", "window-close"):
            if name in values:
                self._options.values[f"display-{name}"] = str(values[name])

    def vnc(self, given: Given, location: str | None = None) -> None:
        """`-vnc`.

        :raise OptionError: it is wrong.
        """
        groups = self._options.groups
        if given.value in HELP:
            raise groups.listing("vnc")
        entry = groups.parse(given, "vnc")
        if location is not None:
            entry.location = location

    def spice(self, given: Given) -> None:
        """`-spice`.

        :raise OptionError: it is wrong, or nothing is known of it.
        """
        groups = self._options.groups
        if not groups.exists("spice") and self._release.behaviour.spice_is_module and not self._has_spice():
            self._options.complaints.line(f"{given.location}: There is no option group 'spice'")
            raise OptionError("Perhaps you want to install qemu-system-modules-spice package?")
        groups.parse(given, "spice")

    def _has_spice(self) -> bool:
        """Whether the release's reference program had its module for SPICE; its group is known then or never asked."""
        return "spice-app" in self._options.lists.choices("displays")

    def rotation(self, given: Given) -> None:
        """`-rotate`.

        :raise OptionError: it is wrong.
        """
        digits = re.match(r"\s*[-+]?[0-9]+", given.value)
        if (int(digits[0]) if digits else 0) not in _ROTATIONS:
            raise OptionError("only 90, 180, 270 deg rotation is available")

    def escape_character(self, given: Given) -> None:
        """`-echr`."""
        import sys

        found = _C_INTEGER.match(given.value)
        if found is None:
            sys.stdout.write("Bad argument to echr\n")
            return
        least, largest = INTEGER_RANGES["int64"]
        number = min(max(integer_of(found[0]), least), largest)
        # C's `long` becomes an `int`; what is no byte then never comes.
        self._options.escape = (number + (1 << 31)) % (1 << 32) - (1 << 31)

    # The log

    def trace(self, given: Given) -> None:
        """`-trace`.

        :raise OptionError: it is wrong.
        """
        entry = self._options.groups.parse(given, "trace")
        enabled = entry.get("enable")
        if enabled is not None:
            if enabled in HELP:
                raise OptionList("".join(f"{name}\n" for name in self._events()), 0)
            self.enable_event(enabled, given.location)
        path = entry.get("events")
        if path is not None:
            self._read_events(path)
        if entry.get("file") is not None:
            self._options.process.log_file = entry.get("file")

    def _events(self) -> tuple[str, ...]:
        return self._options.lists.choices("trace-events")

    def enable_event(self, pattern: str, location: str) -> None:
        """Warn where there is no such event to trace."""
        name = pattern.removeprefix("-")
        events = self._events()
        if any(character in name for character in "*?[") or not events or name in events:
            return
        if any(fnmatchcase(event, name) for event in events):
            return
        place = f"{location}: " if location else ""
        self._options.complaints.line(f"{place}warning: trace event '{name}' does not exist")

    def _read_events(self, path: str) -> None:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                lines = file.read().splitlines()
        except OSError as error:
            raise OptionError(str(error.strerror), f":{path}") from None
        for number, line in enumerate(lines, 1):
            if line and not line.startswith("#"):
                self.enable_event(line, f":{path}:{number}")

    def plugin(self, given: Given) -> None:
        """`-plugin`.

        :raise OptionError: it is wrong.
        """
        if not self._release.behaviour.plugins_built:
            raise Refusal("plugins-missing")
        for number, (key, value) in enumerate(self._options.groups.pairs(given, "plugin")):
            if number == 0 and value in HELP and self._release.behaviour.plugin_help:
                raise self._options.lists.listed("-plugin")
            if key == "file":
                if not value:
                    raise OptionError("requires a non-empty argument")
                self._plugin = True
                self.plugins.append(value)
            elif not self._plugin:
                raise OptionError("missing earlier '-plugin file=' option")

    def ranges(self, given: Given) -> None:
        """`-dfilter`.

        :raise OptionError: it is wrong.
        """
        for text in given.value.split(",") if given.value else ():
            operator = next((mark for mark in ("-", "+", "..") if mark in text), None)
            if operator is None:
                raise OptionError("Bad range specifier")
            left, right = (whole_number(part) for part in text.split(operator, 1))
            for number, side in ((left, "left"), (right, "right")):
                if number is None:
                    raise OptionError(f"Invalid number to the {side} of {operator}")
            assert left is not None
            assert right is not None
            first, last = {
                "-": (left - right + 1, left),
                "+": (left, left + right - 1),
                "..": (left, right),
            }[operator]
            if first > last:
                raise OptionError("Invalid range")

    def seed(self, given: Given) -> None:
        """`-seed`.

        :raise OptionError: it is wrong.
        """
        number = whole_number(given.value)
        if number is None or given.value.lstrip().startswith("-"):
            raise OptionError(f"Invalid seed number: {given.value}")

    # The firmware's tables

    # Others

    def check_incoming(self, text: str) -> None:
        """See what of `-incoming` is looked at at once.

        :raise OptionError: it is wrong.
        """
        is_uri = re.match(r"[^,{]*:", text) is not None
        if is_uri or text == "defer" or not self._release.behaviour.incoming_channels:
            return
        if text.startswith("{"):
            values = self._json(text)
        else:
            values = {**key_values.tree(text, "channel-type")}
        channel = values.get("channel-type")
        if channel is None:
            raise OptionError("Parameter 'channel-type' is missing")
        if channel not in ("main", "cpr"):
            raise OptionError(f"Parameter 'channel-type' does not accept value '{channel}'")
        address = values.get("addr")
        if address is None:
            raise OptionError("Parameter 'addr' is missing")
        transport = address.get("transport") if isinstance(address, dict) else None
        if transport not in ("socket", "exec", "rdma", "file"):
            raise OptionError(f"Parameter 'transport' does not accept value '{transport}'")

    def virtfs(self, given: Given) -> None:
        """`-virtfs`: a file system, and a device that has it.

        :raise OptionError: it is wrong.
        """
        groups = self._options.groups
        entry = groups.parse(given, "virtfs")
        driver, tag = entry.get("fsdriver"), entry.get("mount_tag")
        if driver is None or tag is None:
            raise OptionError("Usage: -virtfs fsdriver,mount_tag=tag")
        identifier = entry.identifier or tag
        try:
            system = groups.create("fsdev", identifier, given.location)
        except Refusal:
            raise OptionError(f"duplicate or invalid fsdev id: {tag}") from None
        system.pairs = [pair for pair in entry.pairs if pair[0] != "mount_tag"]
        device = groups.create("device", None, given.location)
        device.pairs = [("driver", "virtio-9p-pci"), ("fsdev", identifier), ("mount_tag", tag)]

    def overcommit(self, given: Given) -> None:
        """`-overcommit`.

        :raise OptionError: it is wrong.
        """
        entry = self._options.groups.parse(given, "overcommit")
        text = entry.get("mem-lock")
        if text is None or self._options.groups.keys("overcommit").get("mem-lock") == BOOL:
            return
        try:
            key_values.boolean("mem-lock", text)
        except Refusal:
            if text != "on-fault":
                raise OptionError("parameter 'mem-lock' expects one of 'on', 'off', 'on-fault'") from None

    def run_with(self, given: Given) -> None:
        """`-run-with`.

        :raise OptionError: it is wrong.
        """
        entry = self._options.groups.parse(given, "run-with")
        process = self._options.process
        if (root := entry.get("chroot")) is not None:
            process.set_root(root)
        if (user := entry.get("user")) is not None:
            try:
                process.set_user(user)
            except OptionError:
                # QEMU tells the whole argument here.
                text = f'User "{given.value}" doesn\'t exist (and is not <uid>:<gid>)'
                raise OptionError(text) from None

    def compat(self, given: Given) -> None:
        """`-compat`.

        :raise OptionError: it is wrong.
        """
        if given.value.startswith("{"):
            values = self._json(given.value)
        else:
            values = {**key_values.tree(given.value)}
        for name, known in _COMPAT.items():
            value = values.get(name)
            if value is not None and value not in known:
                raise Refusal("enum-refusal", name=name, value=value)
        for name in values:
            if name not in _COMPAT:
                raise OptionError(f"Parameter '{name}' is unexpected")

    def _json(self, text: str) -> dict[str, object]:
        from qmpd.wire.json_text import parse

        try:
            value = parse(text, self._release.behaviour.json_parser)
        except ValueError as error:
            raise OptionError(str(error)) from None
        if not isinstance(value, dict):
            raise OptionError("Invalid parameter type for 'null', expected: object")
        return value
