"""What a guest may have beside its course: an agent, consoles that somebody plays, keys that are held down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.guest.phases import BEFORE_DISKS, GuestPhase
from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qmpd.guest.agent.port import AgentPort
    from qmpd.guest.console import Console
    from qmpd.guest.firmware_text import Media
    from qmpd.guest.screen import Screen
    from qmpd.machine.blueprint import GuestSettings

# What happens as the firmware looks at the drives.
_BOOTS = (GuestPhase.BOOTING, GuestPhase.NOTHING_TO_BOOT)


class WithParts:
    """A guest with such parts; each is made when it is first wanted."""

    __slots__ = (
        "agent", "boots_from", "console", "firmware_has_run", "keys_held", "look", "make_agent", "make_console",
        "make_screen", "phase", "screen", "settings", "starts",
    )  # fmt: skip

    def __init__(self, settings: GuestSettings) -> None:
        self.settings = settings
        self.phase = GuestPhase.RESET
        # SeaBIOS's note to itself.
        self.firmware_has_run = False
        # How often the vCPUs were set going after a reset, the first one being the machine's own start.
        self.starts = 0
        # Its agent, where it has one, and what makes one.
        self.agent: AgentPort | None = None
        self.make_agent: Callable[[], AgentPort] | None = None
        # Its consoles, where it has a script or somebody plays them, and what makes them.
        self.console: Console | None = None
        self.make_console: Callable[[], Console] | None = None
        # Its screen, where somebody looks at it or prints on it, and what makes it.
        self.screen: Screen | None = None
        self.make_screen: Callable[[], Screen] | None = None
        # The drives that its firmware last booted from, and what looks at them: None where nothing has been built.
        self.boots_from: Media | None = None
        self.look: Callable[[], Media | None] | None = None
        # The keys that are held down.
        self.keys_held: set[str] = set()

    def have_agent(self) -> AgentPort:
        """Its agent; made where it has none yet.

        :raise MachineError: nobody makes one.
        """
        if self.agent is None:
            if self.make_agent is None:
                raise MachineError("the guest has no agent")
            self.agent = self.make_agent()
        return self.agent

    def prepare_ends(self) -> None:
        """Whatever of it hears what comes through character devices is to be ready."""
        if self.agent is not None:
            self.agent.prepare()
        if self.console is not None:
            self.console.listen()

    def have_console(self) -> Console:
        """Its consoles.

        :raise MachineError: nobody makes any, or its script is wrong.
        """
        if self.console is None:
            if self.make_console is None:
                raise MachineError("the guest has no console")
            self.console = self.make_console()
        return self.console

    def have_screen(self) -> Screen:
        """Its screen; what was printed on it before it was wanted is there.

        :raise MachineError: nobody makes one.
        """
        if self.screen is None:
            if self.make_screen is None:
                raise MachineError("the guest has no screen")
            self.screen = self.make_screen()
            for event in self._printed():
                self.screen.happened(event, self.boots_from)
        return self.screen

    @property
    def screen_is_lit(self) -> bool:
        """Whether somebody has set the screen's mode; a reset leaves it as it is."""
        return self.starts > 1 or self.firmware_has_run or self.phase not in BEFORE_DISKS

    @property
    def screen_is_reset(self) -> bool:
        """Whether nobody has set it since the machine was reset."""
        return self.phase in (GuestPhase.RESET, GuestPhase.FIRMWARE_RESTART)

    def _printed(self) -> Iterator[str]:
        """What has happened since the firmware last began, as far as it has printed something then."""
        if self.screen_is_lit:
            yield GuestPhase.FIRMWARE
            if self.phase is not GuestPhase.FIRMWARE:
                yield GuestPhase.BOOTING if self.settings.operating_system else GuestPhase.NOTHING_TO_BOOT

    def replace_script(self, text: str) -> None:
        """Do as another script says: new consoles for old ones, and more that the agent finds, where it is there."""
        if self.agent is not None:
            from qmpd.guest.agent.scripted import follow

            follow(self.agent.agent, text)
        if self.make_console is not None:
            if self.console is not None:
                self.console.end()
            self.console = self.make_console()
            self.console.listen()

    def _tell(self, event: str) -> None:
        """Let its screen and its script know of something."""
        boots = event in _BOOTS
        if boots and self.look is not None:
            self.boots_from = self.look()
        if self.screen is not None:
            self.screen.happened(event, self.boots_from if boots else None)
        if self.console is not None:
            self.console.happened(event)
