"""The union of ``/v1/models``: a table of lists, and what a client is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferway.picker.listing import Listing, union
from inferway.scheduling.rewrite import Rewrite, Rule, Target, compile_table


def models(*names: str, parent: str | None = None) -> list[dict[str, Any]]:
    return [{"id": name, "object": "model", "parent": parent, "root": f"/{name}"} for name in names]


def text(*cards: dict[str, Any]) -> bytes:
    return json.dumps({"object": "list", "data": cards}).encode()


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ([text(*models("base"))], ["base"]),
        ([text(*models("base")), text(*models("base"))], ["base"]),
        (
            [
                text(*models("base"), *models("food-1", parent="base")),
                text(*models("base"), *models("cad", parent="base")),
            ],
            ["base", "cad", "food-1"],
        ),
        ([text(*models("a", parent="z")), text(*models("z"))], ["z", "a"]),
        ([text()], []),
    ],
    ids=["one", "equal", "different adapters", "bases first", "none"],
)
def test_union(said: list[bytes], names: list[str]) -> None:
    answer = json.loads(union(said))
    assert answer["object"] == "list"
    assert [card["id"] for card in answer["data"]] == names


def test_entries_are_the_servers_own() -> None:
    card = models("base")[0] | {"max_model_len": 32768, "permission": [{"id": "p"}]}
    assert json.loads(union([text(card)]))["data"] == [card]


def test_servers_that_leave_take_their_adapters_along() -> None:
    listing = Listing()
    assert not listing
    listing.put("a:1", text(*models("base")))
    listing.put("b:1", text(*models("base"), *models("food", parent="base")))
    assert b"food" in listing.text()
    listing.keep({"a:1"})
    assert [card["id"] for card in json.loads(listing.text())["data"]] == ["base"]
    listing.keep(set())
    assert not listing
    assert json.loads(listing.text())["data"] == []


def rewrites(**targets: tuple[str, ...]) -> Any:
    rules = tuple(Rule((a,), tuple(Target(t) for t in found)) for a, found in targets.items())
    return compile_table([Rewrite("r", "", rules)])


def test_names_of_rewrites_are_listed_as_their_first_target_that_is_served() -> None:
    listing = Listing()
    listing.put("a:1", text(*models("base"), *models("food", parent="base")))
    table = rewrites(best=("gone", "food"), main=("base",), base=("food",), lost=("gone",))
    cards = {card["id"]: card for card in json.loads(listing.text(table))["data"]}
    assert list(cards) == ["base", "main", "best", "food"]
    assert (cards["best"]["parent"], cards["best"]["root"]) == ("base", "/food")
    assert (cards["main"]["parent"], cards["main"]["root"]) == (None, "/base")
    assert [card["id"] for card in json.loads(listing.text())["data"]] == ["base", "food"]
