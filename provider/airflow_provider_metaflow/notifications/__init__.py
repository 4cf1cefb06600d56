"""Notifiers: reports on the end of a run."""
