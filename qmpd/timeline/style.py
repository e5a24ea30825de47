"""The looks of everything: colours that the colour-blind tell apart, each with a shape or a word of its own."""

from __future__ import annotations

from typing import NamedTuple

INK = "#1b1f24"
QUIET = "#5a6370"
FAINT = "#c9ced6"
PAPER = "#ffffff"
STRIPE = "#f3f4f7"
WORK = "#9cc4e4"
BROKEN = "#e3a08f"

MONOSPACE = "DejaVu Sans Mono, Menlo, Consolas, monospace"
SANS = "DejaVu Sans, Helvetica, Arial, sans-serif"


class Look(NamedTuple):
    """How a mark looks, and what the legend calls it."""

    shape: str
    colour: str
    legend: str
    bold: bool = False


MARKS = {
    "received": Look("left", "#0063a6", "command", bold=True),
    "sent": Look("right", "#4c5561", "reply"),
    "error": Look("right-barred", "#b3261e", "error"),
    "greeting": Look("right", "#4c5561", "reply"),
    "malformed": Look("burst", "#b3261e", "no message"),
    "event": Look("diamond", "#7a2f96", "event", bold=True),
    "heard": Look("small-diamond", "#7a2f96", "event heard by a client"),
    "guest": Look("square", "#00694f", "guest's step"),
    "control": Look("circle", "#006a78", "puppeteer's command"),
    "fault": Look("flash", "#b54708", "fault", bold=True),
    "override": Look("hexagon", "#7a5600", "made-up reply"),
    "lost": Look("burst", "#b3261e", "missing entries", bold=True),
    "struck": Look("ring", "#b54708", "client that it strikes"),
    "connected": Look("open", "#4c5561", "connected"),
    "disconnected": Look("cross", "#4c5561", "disconnected"),
    "started": Look("bar", "#1b1f24", "start and end"),
    "ended": Look("bar", "#1b1f24", "start and end", bold=True),
}
OTHER = Look("circle", QUIET, "other")

STATES = {
    "running": "#bfe3c0",
    "paused": "#ffe08a",
    "prelaunch": "#d5deea",
    "preconfig": "#e3e7ee",
    "suspended": "#d9cbee",
    "shutdown": "#c3c8cf",
    "guest-panicked": "#f6b3a6",
    "internal-error": "#f3a3b5",
    "io-error": "#f7c6a3",
    "watchdog": "#fbc98a",
    "debug": "#f0e3b2",
    "inmigrate": "#b5e2e6",
    "postmigrate": "#a9d3dd",
    "finish-migrate": "#bfdcef",
    "save-vm": "#cfe0f5",
    "restore-vm": "#dbe6f7",
    "colo": "#e2d3c0",
}
UNKNOWN_STATE = "#e8e8e8"
