"""Clients of the services of AWS, and the secret of a deployment."""
