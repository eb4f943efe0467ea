"""The programs around a Pod's processes: the launcher, and one pause process for each Pod.

Imports the standard library only, because the launcher must start within milliseconds and every
pause process is a copy of it. Knows nothing of Kubernetes: argument vectors, folders and ports.
"""
