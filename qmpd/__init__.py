"""A QMP server that stands in for QEMU: the QEMU Machine Protocol over a model of QEMU's run states."""

__version__ = "0.2.0"
