"""QEMU's option language: key=value lists, groups and the types of values."""
