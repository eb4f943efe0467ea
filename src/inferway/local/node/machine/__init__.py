"""A Pod's life as a machine without I/O: events and the time go in, commands come out.

Knows what a kubelet does with containers, probes, hooks, restarts and endings, and how Kubernetes
words it. Knows no process, no socket, no clock and no API server.
"""
