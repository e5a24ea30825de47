"""Disks: images, the graph of block nodes and its rules."""
