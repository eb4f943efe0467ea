"""Rules of built-in kinds that Kubernetes' own Go code checks, one file per kind.

Each function takes an object with all defaults and types (``api.defaults``, ``schema.decoding``),
the old object or None, and gives field errors in Kubernetes' words. Names, labels and annotations
of the object itself are the API server's business. ``table`` is what callers use.
"""
