"""Flow control: who of those that wait goes next, when the servers can not take all at once.

Knows keys, priorities, flows, sizes and times; requests themselves stay with the caller. Nothing
in here decides which server a request gets: that happens when it is let go.
"""
