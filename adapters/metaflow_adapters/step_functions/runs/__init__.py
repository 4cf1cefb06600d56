"""Runs of deployed flows: started, listed, terminated, resumed, and what their history says."""
