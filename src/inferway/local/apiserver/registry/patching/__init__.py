"""How patches change objects: merge patch, strategic merge patch, server-side apply.

Pure functions of JSON values and a ``Shape``. They give new objects and leave their arguments as
they are. Which kinds exist and what is stored is not known here.
"""
