"""What the compiled form of a flow depends on: its files, their layout, and what its import has read."""
