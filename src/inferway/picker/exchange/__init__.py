"""How the pickers of a pool tell each other what they reserve.

``messages`` is what goes over the wire, ``machine`` what it means, ``finding`` who the others are,
and ``pump`` does the input and output. Best effort: a picker that hears nothing decides by what it
knows itself and by what it scrapes.
"""
