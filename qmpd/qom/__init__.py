"""Objects and properties: the tree, its types, reading and writing."""
