"""Sensors that wait for runs and artifacts of Metaflow."""
