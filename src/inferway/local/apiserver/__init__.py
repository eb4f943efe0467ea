"""The embedded Kubernetes API server: storage < registry < http, and ``server.py`` on top.

Knows Kubernetes' API conventions. Does not know who its clients are: controllers, node and gateway
reach it over HTTPS as kubectl does.
"""
