"""The virtual guest: its course, and its side of the devices."""
