"""The qtest protocol."""
