"""Migration: where a machine would go to, or come from."""
