"""Bodies in YAML: what aliases stand for is bounded before it is written out."""

from __future__ import annotations

import pytest

from inferway.local.apiserver.http.negotiate import decode_body
from inferway.local.apiserver.registry.errors import StatusError

BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize("text", [BOMB, "a: &a [*a]\n"], ids=["bomb", "a value in itself"])
def test_aliases_that_stand_for_too_much_are_refused(text: str) -> None:
    with pytest.raises(StatusError, match="aliases stand for more than") as caught:
        decode_body("application/yaml", text.encode())
    assert caught.value.code == 400


def test_aliases_are_written_out() -> None:
    assert decode_body("application/yaml", b"a: &a {b: 1}\nc: *a\n") == {
        "a": {"b": 1},
        "c": {"b": 1},
    }
