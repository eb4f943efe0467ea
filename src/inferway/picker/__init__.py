"""The endpoint picker: what surrounds the scheduling with the world.

Answers the pick callout, hears the access log, scrapes the model servers, watches the pool. Every
choice is made in the scheduling room; here is only transport, parsing and time.
"""
