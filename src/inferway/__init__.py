"""Inferway: an inference gateway for Kubernetes and for one machine."""

__version__ = "0.1.0"
