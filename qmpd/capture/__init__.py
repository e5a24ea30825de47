"""Capture: asking a real QEMU what it is, and writing that down as a release's folder or a twin's file."""
