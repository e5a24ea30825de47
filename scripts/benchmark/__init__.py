"""The benchmark behind `scripts/bench`: qmpd beside real QEMU and beside the least that can serve a socket."""
