"""The command line: options in QEMU's spelling, and the subcommands."""
