"""How one release behaves where releases differ: one named field for each difference.

Every value comes from a release's `release.json`; code asks these fields and never compares version
numbers.  `ABOUT` says what each field changes, and is what the release files carry beside the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

# The second half is how a value came about that no question to a running program can find out.
ABOUT: dict[str, str] = {
    "reply_after_turn": "a command's reply is sent after the main loop's turn that serves what the command asked for,"
    " so after its events; false: before that turn",
    "float_format": "how a number with a fraction is printed: 'g17' as C's %.17g, 'f' as %f without trailing zeros",
    "json_parser": "the rules and texts of parse errors: 'classic', or 'positions' (the text starts with line:column)",
    "singlestep_in_status": "query-status has the member 'singlestep'",
    "stop_affects_suspended": "stop takes a suspended guest to 'paused' and cont back; false: neither does anything",
    "panic_reported_twice": "a guest's panic that powers off is reported as GUEST_PANICKED 'pause', then 'poweroff'",
    "preconfig_run_state": "the run state before x-exit-preconfig",
    "preconfig_refusal": "the text that refuses a command before x-exit-preconfig",
    "exit_preconfig_refusal": "the text that refuses x-exit-preconfig once the machine exists",
    "enum_refusal": "the text for a string that is not a value of its enumeration",
    "no_hotpluggable_cpus": "the text of query-hotpluggable-cpus where the machine has none",
    "no_nmi": "the text of inject-nmi where the machine has none",
    "debug_exit_announced": "isa-debug-exit asks for a shutdown, so SHUTDOWN tells of it and shutdown=pause"
    " holds it up; false: it ends the process at once",
    "events_carry_cause": "RESET and SHUTDOWN have data: who brought it about, and why",
    "reset_keeps_state": "a reset leaves the run state as it is, but makes one that needs a reset"
    " 'paused'; false: where the machine was not running it becomes 'prelaunch'",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The differences between releases; what each field changes stands in `ABOUT`.

    The defaults are release 10.0's.  Texts hold their variable parts as `{name}` for `str.format`.
    """

    reply_after_turn: bool = True
    float_format: str = "g17"
    json_parser: str = "classic"
    singlestep_in_status: bool = False
    stop_affects_suspended: bool = True
    panic_reported_twice: bool = False
    preconfig_run_state: str = "prelaunch"
    preconfig_refusal: str = "The command '{command}' is permitted only after machine initialization has completed"
    exit_preconfig_refusal: str = "The command is permitted only before machine initialization"
    enum_refusal: str = "Parameter '{name}' does not accept value '{value}'"
    no_hotpluggable_cpus: str = "machine does not support hot-plugging CPUs"
    no_nmi: str = "machine does not provide NMIs"
    debug_exit_announced: bool = True
    events_carry_cause: bool = True
    reset_keeps_state: bool = False

    @classmethod
    def from_json(cls, members: Mapping[str, Mapping[str, object]]) -> Behaviour:
        """Read the `behaviour` member of a release.json: `{field: {"value": ...}}`.

        :raise ValueError: a field has no value, an unknown name, or a value of another type.
        """
        known = {field.name: field.type for field in fields(cls)}
        values: dict[str, object] = {}
        for name, member in members.items():
            if name not in known:
                raise ValueError(f"unknown behaviour '{name}'")
            value = member.get("value")
            if type(value).__name__ != known[name]:
                raise ValueError(f"behaviour '{name}' has no value of type {known[name]}")
            values[name] = value
        return cls(**values)  # type: ignore[arg-type]
