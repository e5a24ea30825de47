"""What the run-state core asks of a release."""

from __future__ import annotations

from typing import Protocol


class CoreBehaviour(Protocol):
    """The fields that the core reads of a release's behaviour (`qmpd.qapi` loads them; each is explained there)."""

    @property
    def stop_affects_suspended(self) -> bool:
        """`stop` takes a suspended guest to `paused`, and `cont` back."""

    @property
    def panic_reported_twice(self) -> bool:
        """A panic that powers off is reported as `pause` first, then as `poweroff`."""

    @property
    def preconfig_run_state(self) -> str:
        """The run state before `x-exit-preconfig`; where it is `preconfig`, leaving it waits for the next turn."""

    @property
    def exit_preconfig_refusal(self) -> str:
        """The text that refuses `x-exit-preconfig` once the machine exists."""

    @property
    def microvm_has_seabios(self) -> bool:
        """The firmware of machine microvm is SeaBIOS."""

    @property
    def no_nmi(self) -> str:
        """The text that refuses `inject-nmi` where the machine has no NMI."""

    @property
    def debug_exit_announced(self) -> bool:
        """isa-debug-exit asks for a shutdown with an exit status; false: it ends the process at once."""

    @property
    def end_key_announced(self) -> bool:
        """The key that ends the emulator asks for a shutdown; false: it ends the process at once."""

    @property
    def events_carry_cause(self) -> bool:
        """RESET and SHUTDOWN carry `guest` and `reason`."""

    @property
    def reset_keeps_state(self) -> bool:
        """A reset leaves run states as they are, but for those that need one, which become `paused`."""

    @property
    def wakeup_refused(self) -> bool:
        """`system_wakeup` tells where there is nobody to wake; false: it does nothing then."""

    @property
    def firmware_resets(self) -> int:
        """How many resets SeaBIOS adds to one, most of the time."""
