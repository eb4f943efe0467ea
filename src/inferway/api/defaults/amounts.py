"""Quantities in their canonical form, as Kubernetes stores them: 0.5 is 500m, 1024Mi is 1Gi."""

from __future__ import annotations

from decimal import ROUND_UP, Decimal
from typing import Any

from inferway.base import quantities

_DECIMAL = ("n", "u", "m", "", "k", "M", "G", "T", "P", "E")
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_THOUSAND = Decimal(1000)
_NANO = Decimal("1e-9")


def canonical(value: Any) -> str:
    """The canonical text of a quantity; what is no quantity comes back as text."""
    try:
        number = quantities.parse(value)
    except ValueError:
        return str(value)
    text = str(value)
    # Nothing finer than a billionth is kept.
    number = number.quantize(_NANO, rounding=ROUND_UP) if number % _NANO else number
    if text.endswith("i") and number == number.to_integral_value() and abs(number) >= 1024:
        return _binary(int(number))
    if "e" in text or ("E" in text and not text.endswith(("E", "Ei"))):
        return text
    return _decimal(number)


def _binary(number: int) -> str:
    place = 0
    while number % 1024 == 0 and place < len(_BINARY) - 1:
        number //= 1024
        place += 1
    return f"{number}{_BINARY[place]}"


def _decimal(number: Decimal) -> str:
    if number == 0:
        return "0"
    place = _DECIMAL.index("")
    while number % 1 and place > 0:
        number *= _THOUSAND
        place -= 1
    while number % _THOUSAND == 0 and place < len(_DECIMAL) - 1:
        number /= _THOUSAND
        place += 1
    return f"{int(number)}{_DECIMAL[place]}"
