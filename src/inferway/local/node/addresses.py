"""Addresses of Pods: the lower half of the stack's /16, each given out once. Pure.

``127.N.1.1`` to ``127.N.127.254``. An address that was freed is used last, so that a client that
still has it in mind does not meet another Pod.
"""

from __future__ import annotations

from inferway.base.errors import InferwayError

THIRD_MIN, THIRD_MAX = 1, 127
FOURTH_MIN, FOURTH_MAX = 1, 254
ADDRESSES = (THIRD_MAX - THIRD_MIN + 1) * (FOURTH_MAX - FOURTH_MIN + 1)


class PodAddresses:
    """Gives addresses to owners (Pod uids)."""

    def __init__(self, network: str) -> None:
        self._network = network
        self._owners: dict[str, str] = {}
        self._cursor = 0

    def claim(self, owner: str, address: str) -> bool:
        """Takes the address that a Pod had before; False if it is not free or not ours."""
        if not self._is_ours(address) or self._owners.get(address, owner) != owner:
            return False
        self._owners[address] = owner
        return True

    def allocate(self, owner: str) -> str:
        """The next free address. Raises InferwayError."""
        for _ in range(ADDRESSES):
            third, fourth = divmod(self._cursor, FOURTH_MAX)
            self._cursor = (self._cursor + 1) % ADDRESSES
            address = f"{self._network}.{THIRD_MIN + third}.{FOURTH_MIN + fourth}"
            if address not in self._owners:
                self._owners[address] = owner
                return address
        raise InferwayError(
            "INFERWAY0205",
            f"all {ADDRESSES} Pod addresses of {self._network}.0.0/16 are in use",
            fix="Delete Pods that are not needed.",
        )

    def release(self, owner: str) -> None:
        """Frees all addresses of an owner."""
        for address in [a for a, holder in self._owners.items() if holder == owner]:
            del self._owners[address]

    def _is_ours(self, address: str) -> bool:
        prefix, _, rest = address.partition(self._network + ".")
        third, _, fourth = rest.partition(".")
        return (
            prefix == ""
            and third.isdigit()
            and fourth.isdigit()
            and THIRD_MIN <= int(third) <= THIRD_MAX
            and FOURTH_MIN <= int(fourth) <= FOURTH_MAX
        )
