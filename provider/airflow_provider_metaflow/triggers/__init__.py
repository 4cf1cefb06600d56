"""Triggers: the waiting of deferred operators and sensors."""
