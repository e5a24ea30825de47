"""Migration, and the stream that a machine travels in."""
