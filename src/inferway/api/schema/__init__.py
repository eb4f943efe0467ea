"""Structural schemas of kinds, from two sources in one form, and what can be done with them.

``model`` is the form; ``load`` reads a CRD's openAPIV3Schema; ``catalog`` has the built-in kinds.
``fields`` finds and prunes unknown fields, ``defaulting`` applies defaults, ``validation`` judges,
``decoding`` words what a Go decoder would refuse, ``openapi`` and ``descriptions`` serve
``kubectl explain``. All are pure functions of JSON values.
"""
