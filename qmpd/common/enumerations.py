"""Enumerations that are types of properties."""

from __future__ import annotations

ENUMERATIONS: dict[str, tuple[str, ...]] = {
    "OnOffAuto": ("auto", "on", "off"),
    "HostMemPolicy": ("default", "preferred", "bind", "interleave"),
    "LostTickPolicy": ("discard", "delay", "slew"),
    "FdcDriveType": ("144", "288", "120", "none", "auto"),
    "FloppyDriveType": ("144", "288", "120", "none", "auto"),
    "GranuleMode": ("4k", "8k", "16k", "64k", "host"),
    "ZeroPageDetection": ("none", "legacy", "multifd"),
    "BlockdevOnError": ("report", "ignore", "enospc", "stop", "auto"),
    "BiosAtaTranslation": ("auto", "none", "lba", "large", "rechs"),
    "OffAutoPCIBAR": ("off", "auto", "bar0", "bar1", "bar2", "bar3", "bar4", "bar5"),
    "MultiFDCompression": ("none", "zlib", "zstd"),
    "PCIELinkSpeed": ("2_5", "5", "8", "16", "32", "64"),
    "PCIELinkWidth": ("1", "2", "4", "8", "12", "16", "32"),
    "QCryptoSecretFormat": ("raw", "base64"),
    "QCryptoTLSCredsEndpoint": ("client", "server"),
    "NetFilterDirection": ("all", "rx", "tx"),
    "MonitorQMPCloseAction": ("none", "delete"),
    "off/auto/2.0/3.0": ("off", "auto", "2.0", "3.0"),
}
"""The values of those enumerations that are types of properties, under the names that qom-list gives them."""
