"""What a release of QEMU is: its commands, events, types and the few behaviours that set it apart."""
