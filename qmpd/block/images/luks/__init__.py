"""LUKS: encrypted volumes, alone in a file or within a qcow2 image (LUKS On-Disk Format 1.2.3)."""
