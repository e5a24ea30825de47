"""A machine's objects (QOM): the tree that they form, and the devices and backends that come and go in it.

Nothing here is made before somebody asks for it: a machine that nobody asks has no tree.  What the objects are like
comes from outside (`ObjectSource`), since this knows no files.
"""
