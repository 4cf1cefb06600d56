"""Reads a flow as it stands inside Metaflow's own command line. Imports Metaflow."""
