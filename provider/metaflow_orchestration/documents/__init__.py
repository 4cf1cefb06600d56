"""Typed documents that cross processes."""
