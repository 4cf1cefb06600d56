"""Compiles flows beside the parse of a DAG file: the process that does it, and how a parse asks it."""
