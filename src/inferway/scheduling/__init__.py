"""Which server a request goes to: a pure function of what is known of the servers.

Knows endpoints, models, prompts as bytes, and time as a number. Does not know Kubernetes, HTTP,
clocks or random sources; those come in as arguments.
"""
