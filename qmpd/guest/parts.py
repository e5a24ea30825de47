"""What a guest may have beside its course: an agent, consoles that somebody plays, keys that are held down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qmpd.machine.errors import MachineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qmpd.guest.agent.port import AgentPort
    from qmpd.guest.console import Console


class WithParts:
    """A guest with such parts; each is made when it is first wanted."""

    __slots__ = ("agent", "console", "keys_held", "make_agent", "make_console")

    def __init__(self) -> None:
        # Its agent, where it has one, and what makes one.
        self.agent: AgentPort | None = None
        self.make_agent: Callable[[], AgentPort] | None = None
        # Its consoles, where it has a script or somebody plays them, and what makes them.
        self.console: Console | None = None
        self.make_console: Callable[[], Console] | None = None
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
        """Let its script know of something."""
        if self.console is not None:
            self.console.happened(event)
