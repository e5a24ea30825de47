"""What a release of QEMU is: its commands, events, types and the few behaviours that set it apart."""

from qmpd.qapi.behaviour import Behaviour
from qmpd.qapi.errors import ArgumentError, BadRelease, UnknownExtension, UnknownRelease
from qmpd.qapi.folders import release_names
from qmpd.qapi.loading import DEFAULT_RELEASE, load_release
from qmpd.qapi.release import Command, Release

__all__ = [
    "DEFAULT_RELEASE",
    "ArgumentError",
    "BadRelease",
    "Behaviour",
    "Command",
    "Release",
    "UnknownExtension",
    "UnknownRelease",
    "load_release",
    "release_names",
]
