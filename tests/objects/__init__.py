"""Devices, backends, block nodes and objects that come and go."""
