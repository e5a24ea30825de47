"""Reads the options of QEMU's command line, a module for each kind."""
