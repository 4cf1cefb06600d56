"""Engines that the tests run against where the real service cannot be had on a test machine."""
