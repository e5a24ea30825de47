"""Mutants: copies of qmpd with one small change each, made by mutmut, to see whether the tests notice."""
