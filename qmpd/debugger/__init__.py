"""The stub that debuggers attach to (`-gdb`, `-s`, `gdbserver`): GDB's remote serial protocol, no input or output."""
