"""The cache of compiled flows."""
