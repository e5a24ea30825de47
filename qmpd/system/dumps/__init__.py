"""The guest's memory in a file: core dumps in ELF and in the formats of kdump, and plain copies of parts of it."""
