"""The options that `qmpd serve` and QEMU's own program share."""
