"""Runs of deployed flows: started, listed, suspended, terminated, resumed."""
