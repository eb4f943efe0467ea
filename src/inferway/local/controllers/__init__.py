"""The controllers of a local cluster: each one a pure plan and a thin pump.

Know the API as a client only, so they could run beside any API server. Do not know processes.
"""
