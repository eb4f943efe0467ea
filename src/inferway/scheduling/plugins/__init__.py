"""The plugins of an EndpointPickerConfig, one file each, under their published names.

A plugin is a value with parameters; what it needs to know it reads from the context. The table of
all of them is in ``registry``.
"""
