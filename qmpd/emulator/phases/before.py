"""What QEMU does before it makes the machine: what affects everything else, and what lists what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.common.refusals import NotModelled, Refusal
from qmpd.emulator.phases.boot_files import check_kernel_options
from qmpd.option_language.errors import NOWHERE, BareError, OptionError, OptionList
from qmpd.option_language.groups import HELP
from qmpd.server.chardevs.probing import probe_writing

if TYPE_CHECKING:
    from qmpd.emulator.reading.options import EmulatorOptions
    from qmpd.option_language.groups import Entry

_SANDBOX = {
    "obsolete": ("allow", "deny"),
    "elevateprivileges": ("allow", "deny", "children"),
    "spawn": ("allow", "deny"),
    "resourcecontrol": ("allow", "deny"),
}
_WATCHDOGS = {"i6300esb": "Intel 6300ESB", "ib700": "iBASE 700"}
_ACTIONS = ("reboot", "shutdown", "panic", "watchdog")


class Before:
    """Looks at all that comes before the machine."""

    def __init__(self, options: EmulatorOptions) -> None:
        self._options = options
        self._release = options.release
        self._groups = options.groups
        self._tree = options.machine.machine

    def look(self) -> None:
        """What affects everything else, or lists what there is.

        :raise OptionError: a fault.
        :raise OptionList: something is to be listed.
        """
        options = self._options
        self._validate()
        self._choose_watchdog()
        self._check_sandbox()
        if self._release.behaviour.keyval_options:
            self._check_actions()
        else:
            options.machine.check_actions()
        options.process.add_descriptors(self._groups.find("add-fd"))
        self._set_log()
        if options.values.get("cpu") in HELP:
            raise options.lists.cpus()
        for entry in self._groups.find("device"):
            self._list_device(entry)
        if options.values.get("L"):
            raise options.lists.listed("-L")
        if options.process.pid_file is not None:
            probe_writing(options.process.pid_file, "pid-file")

    def _choose_watchdog(self) -> None:
        given = self._options.given.get("watchdog", ())
        if not given:
            return
        name, location = given[0].value, given[0].location
        listed = tuple(f"\t{kind}\t{what}" for kind, what in _WATCHDOGS.items())
        if name in HELP:
            raise OptionList("", 0, listed)
        if name not in _WATCHDOGS:
            raise OptionList("", 1, ("Unknown -watchdog device. Supported devices are:", *listed))
        self._groups.create("device", None, location).pairs = [("driver", name)]

    def _validate(self) -> None:
        tree, values = self._tree, self._options.values
        check_kernel_options(tree)
        incoming, excluded = self._options.machine.incoming, self._release.behaviour.keyval_options
        if excluded and "loadvm" in values and incoming is not None:
            raise OptionError("'incoming' and 'loadvm' options are mutually exclusive", NOWHERE)
        if excluded and self._options.machine.settings.preconfig:
            if "loadvm" in values:
                raise OptionError("'preconfig' and 'loadvm' options are mutually exclusive", NOWHERE)
            if incoming not in (None, "defer"):
                raise OptionError("'preconfig' supports '-incoming defer' only", NOWHERE)
        if self._options.process.daemonize and values.get("display") == "curses":
            raise OptionError("curses display cannot be used with -daemonize", NOWHERE)

    def _check_sandbox(self) -> None:
        for entry in self._groups.find("sandbox"):
            if not entry.flag("enable"):
                continue
            for name, known in _SANDBOX.items():
                value = entry.get(name)
                if value is not None and value not in known:
                    raise entry.error(f"invalid argument for {name}")

    def _check_actions(self) -> None:
        entry = self._groups.merged("action")
        if entry is None:
            return
        for name in _ACTIONS:
            value = entry.get(name)
            if value is not None:
                self._options.machine.take_actions([(name, value)], entry.location)
        self._options.machine.check_actions()

    def _set_log(self) -> None:
        options = self._options
        items = options.values.get("d")
        listed = options.lists.choices("log-items")
        if items is not None and listed:
            known = {*listed, "all"}
            for item in items.split(","):
                if item == "trace:help":
                    raise options.lists.listed("-trace")
                if item.startswith("trace:") and item != "trace:":
                    options.singles.enable_event(item.removeprefix("trace:"), "")
                elif item not in known:
                    raise options.lists.listed("-d")
        behaviour = self._release.behaviour
        try:
            options.process.open_log(logs=items is not None, always=behaviour.log_always_opened)
        except Refusal as refusal:
            if behaviour.log_faults_bare:
                raise BareError(self._release.refusals.message(refusal), NOWHERE) from None
            raise

    def _list_device(self, entry: Entry) -> None:
        driver = entry.get("driver")
        if driver is None or not (driver in HELP or any(key in HELP for key, _ in entry.pairs)):
            return
        try:
            found = self._options.lists.device(driver)
        except NotModelled:
            raise
        except Refusal as refusal:
            self._options.complaints.error(entry.error(self._release.refusals.message(refusal)))
            raise self._options.lists.nothing() from None
        raise found
