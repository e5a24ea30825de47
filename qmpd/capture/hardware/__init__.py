"""Taking a machine's objects apart: what a release's machines and devices are made of (`qmpd.qapi.hardware`)."""
