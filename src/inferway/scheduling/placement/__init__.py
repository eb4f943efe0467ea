"""Adapter placement: which LoRA adapters are loaded on which servers of a pool.

Knows adapters, servers and demand as values and gives commands. Does not know Kubernetes, HTTP or a
clock, and nothing of how a request is routed: routing sees what is loaded and decides by itself.
"""
