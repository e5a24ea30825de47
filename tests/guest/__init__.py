"""The virtual guest and its agent."""
