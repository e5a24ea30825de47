"""The hand-over of a machine from a parent process to its child (live update)."""
