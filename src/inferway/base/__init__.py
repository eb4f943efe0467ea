"""What every room may use: clocks, ids, errors, limits, quantities, durations, bounded containers.

Knows the standard library and nothing else.
"""
