"""Deployments in an account of AWS: made, changed, listed and removed, with the least that roles permit."""
