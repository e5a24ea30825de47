"""State diagrams, drawn from the tables of transitions themselves."""
