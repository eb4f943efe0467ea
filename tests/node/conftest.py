"""Fixtures of the node's tests."""
