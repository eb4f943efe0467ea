"""Defaults of built-in kinds that Kubernetes' own Go code sets, one file per kind.

The functions complete an object in place: they get a private copy whose values have the right
types (``api.schema.decoding``). ``table`` has the order and is what callers use.
"""
