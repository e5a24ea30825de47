"""The qcow2 format, version 2 and 3: reading and writing.  (QEMU's docs/interop/qcow2.txt.)

A file a concern: `layout` has the tables of the specification, `header` the header and its extensions, `refcounts` who
uses which cluster of the file, `uses` who is told to be a cluster's only user, `mapping` where each of the guest's
clusters is, `reading` an open image, `image` writing to it, `snapshot_table` and `snapshots` the internal snapshots,
`bitmaps` the persistent dirty bitmaps, `creation` new images, `check` a walk through all of it.

Whatever is written is written in an order that a killed process cannot make harmful: first the reference count, then
the data, then the entry that points to it; and the other way round where something is given back.  The worst that can
be left is a cluster that nobody uses (a leak).
"""
