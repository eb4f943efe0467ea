"""Fixtures of the client's tests."""

from cluster_fakes import client, server

__all__ = ["client", "server"]
