"""One whole virtual machine: what the doors are given."""
