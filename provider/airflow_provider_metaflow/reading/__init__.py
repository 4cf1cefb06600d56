"""Reads what Metaflow knows of runs as JSON; nothing that a task has stored is ever unpickled here."""
