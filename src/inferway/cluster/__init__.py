"""The Kubernetes API as a client sees it: requests, caches, queues, events, leases.

Knows HTTP, TLS and Kubernetes' conventions. Does not know what any kind means.
"""
