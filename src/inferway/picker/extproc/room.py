"""Room for bodies that wait to be answered, shared by all requests of a picker."""

from __future__ import annotations


class Room:
    """Counts bytes; what does not fit is refused."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.taken = 0

    def take(self, size: int) -> bool:
        """Whether there was room."""
        if self.taken + size > self.bytes_max:
            return False
        self.taken += size
        return True

    def give(self, size: int) -> None:
        """What was taken is free again."""
        self.taken -= size
