"""Processes that compile: run under supervision, none of them left behind."""
