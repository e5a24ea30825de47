"""The phases in which QEMU looks at its command line."""
