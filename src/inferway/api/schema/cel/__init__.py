"""The part of the Common Expression Language that rules of CRDs use.

``parser`` makes a tree, ``evaluate`` gives its value, ``rules`` judges x-kubernetes-validations.
Literals, operators, macros, and the functions of ``functions`` are known; a rule that uses more is
passed over, so that an object is never refused for our lack of knowledge.
"""
