"""QEMU's own program: its command line, and the phases in which it is looked at."""
