"""What the kinds of nodes do with the bytes: protocols, formats, filters.

`qmpd.block.drivers.table` has them all; each is imported when a node of it is opened.
"""
