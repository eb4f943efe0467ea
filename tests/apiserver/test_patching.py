"""Merge patch, strategic merge patch and server-side apply, as tables and as laws.

Method: shapes are written by hand, so that the rules are tested apart from any schema.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.local.apiserver.registry.patching import managed, paths
from inferway.local.apiserver.registry.patching.managed import ApplyConflictError, Writer
from inferway.local.apiserver.registry.patching.mergepatch import (
    PatchError,
    json_patch,
    merge_patch,
)
from inferway.local.apiserver.registry.patching.shape import ListType, PlainShape
from inferway.local.apiserver.registry.patching.strategic import strategic_merge

MERGE = frozenset({"merge"})
ENV = PlainShape(list_type=ListType.MAP, list_keys=("name",), strategies=MERGE, merge_key="name")
PORTS = PlainShape(
    list_type=ListType.MAP,
    list_keys=("containerPort", "protocol"),
    list_key_defaults={"protocol": "TCP"},
    strategies=MERGE,
    merge_key="containerPort",
)
CONTAINER = PlainShape(members={"env": ENV, "ports": PORTS})
CONTAINERS = PlainShape(
    list_type=ListType.MAP, list_keys=("name",), strategies=MERGE, merge_key="name", items=CONTAINER
)
SPEC = PlainShape(
    members={
        "containers": CONTAINERS,
        "finalizers": PlainShape(list_type=ListType.SET, strategies=MERGE),
        "args": PlainShape(),
        "strategy": PlainShape(strategies=frozenset({"retainKeys"})),
        "selector": PlainShape(map_is_atomic=True),
    }
)
SHAPE = PlainShape(members={"spec": SPEC})


@pytest.mark.parametrize(
    ("current", "patch", "expected"),
    [
        ({"a": 1}, {"a": None}, {}),
        ({"a": {"b": 1}}, {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}),
        ({"a": [1]}, {"a": [2]}, {"a": [2]}),
        ({"a": 1}, {"a": {"b": None}}, {"a": {}}),
        ("x", {"a": 1}, {"a": 1}),
    ],
)
def test_merge_patch(current: Any, patch: Any, expected: Any) -> None:
    assert merge_patch(current, patch) == expected


def test_json_patch_failures_say_why() -> None:
    assert json_patch({"a": 1}, [{"op": "replace", "path": "/a", "value": 2}]) == {"a": 2}
    with pytest.raises(PatchError, match="testing value failed"):
        json_patch({"a": 1}, [{"op": "test", "path": "/a", "value": 2}])
    with pytest.raises(PatchError, match="cannot be applied"):
        json_patch({"a": 1}, [{"op": "remove", "path": "/b"}])
    with pytest.raises(PatchError, match="list of operations"):
        json_patch({"a": 1}, {"op": "remove"})


@pytest.mark.parametrize(
    ("current", "patch", "expected"),
    [
        pytest.param(
            {"containers": [{"name": "a", "image": "1"}, {"name": "b"}]},
            {"containers": [{"name": "a", "image": "2"}]},
            {"containers": [{"name": "a", "image": "2"}, {"name": "b"}]},
            id="items merge by key",
        ),
        pytest.param(
            {"containers": [{"name": "a"}, {"name": "b"}]},
            {"containers": [{"name": "a", "$patch": "delete"}]},
            {"containers": [{"name": "b"}]},
            id="an item is deleted",
        ),
        pytest.param(
            {"containers": [{"name": "a"}]},
            {"containers": [{"$patch": "replace"}, {"name": "c"}]},
            {"containers": [{"name": "c"}]},
            id="a list is replaced",
        ),
        pytest.param(
            {"containers": [{"name": "a"}, {"name": "b"}]},
            {"containers": [{"name": "c"}],
             "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]},
            {"containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]},
            id="the order is set",
        ),
        pytest.param(
            {"finalizers": ["x", "y"]},
            {"finalizers": ["z"], "$deleteFromPrimitiveList/finalizers": ["x"]},
            {"finalizers": ["y", "z"]},
            id="values join and go",
        ),
        pytest.param(
            {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}},
            {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}},
            {"strategy": {"type": "Recreate"}},
            id="only named keys are kept",
        ),
        pytest.param({"args": ["a"]}, {"args": ["b"]}, {"args": ["b"]}, id="atoms are replaced"),
        pytest.param({"x": {"a": 1}}, {"x": {"$patch": "delete"}}, {"x": {}}, id="a map goes"),
        pytest.param({"x": 1, "y": 2}, {"x": None}, {"y": 2}, id="null removes"),
    ],
)  # fmt: skip
def test_strategic_merge(current: Any, patch: Any, expected: Any) -> None:
    before = copy.deepcopy(current)
    assert strategic_merge(current, patch, SPEC) == expected
    assert current == before


def test_strategic_merge_names_a_missing_key() -> None:
    with pytest.raises(PatchError, match="does not contain declared merge key: name"):
        strategic_merge({}, {"containers": [{"image": "x"}]}, SPEC)


def obj(spec: Any, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x", **metadata}, "spec": spec}


def writer(name: str, time: str = "2026-01-01T00:00:00Z") -> Writer:
    return Writer(name, "v1", time)


def owners(value: dict[str, Any]) -> dict[str, Any]:
    return {e["manager"]: e["fieldsV1"] for e in value["metadata"].get("managedFields", [])}


def test_applying_owns_what_it_says() -> None:
    config = obj(
        {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}], "args": ["x"],
         "finalizers": ["f"], "selector": {"app": "a"}}
    )  # fmt: skip
    result = managed.apply(None, config, SHAPE, writer("m"), force=False)
    port = 'k:{"containerPort":80,"protocol":"TCP"}'
    assert owners(result)["m"] == {
        "f:spec": {
            "f:args": {},
            "f:containers": {
                'k:{"name":"a"}': {
                    ".": {},
                    "f:name": {},
                    "f:ports": {port: {".": {}, "f:containerPort": {}}},
                }
            },
            "f:finalizers": {'v:"f"': {}},
            "f:selector": {},
        }
    }


def test_a_field_that_is_left_out_goes() -> None:
    first = managed.apply(None, obj({"a": 1, "b": 2}), SHAPE, writer("m"), force=False)
    second = managed.apply(first, obj({"a": 1}), SHAPE, writer("m"), force=False)
    assert second["spec"] == {"a": 1}


def test_a_field_that_another_holds_too_stays() -> None:
    first = managed.apply(None, obj({"a": 1, "b": 2}), SHAPE, writer("m"), force=False)
    both = managed.apply(first, obj({"b": 2}), SHAPE, writer("n"), force=False)
    after = managed.apply(both, obj({"a": 1}), SHAPE, writer("m"), force=False)
    assert after["spec"] == {"a": 1, "b": 2}
    assert owners(after)["n"] == {"f:spec": {"f:b": {}}}


def test_an_item_stays_with_its_key_while_another_holds_a_field_of_it() -> None:
    mine = obj({"containers": [{"name": "a", "image": "1"}, {"name": "b"}]})
    first = managed.apply(None, mine, SHAPE, writer("m"), force=False)
    theirs = obj({"containers": [{"name": "a", "tty": True}]})
    both = managed.apply(first, theirs, SHAPE, writer("n"), force=False)
    after = managed.apply(both, obj({}), SHAPE, writer("m"), force=False)
    assert after["spec"] == {"containers": [{"name": "a", "tty": True}]}


def test_conflicts_are_named_as_kubernetes_names_them() -> None:
    live = managed.track(None, obj({"replicas": 1}), SHAPE, writer("kubectl-edit"))
    with pytest.raises(ApplyConflictError) as caught:
        managed.apply(live, obj({"replicas": 2}), SHAPE, writer("m"), force=False)
    assert str(caught.value) == (
        'Apply failed with 1 conflict: conflict with "kubectl-edit" using v1 '
        "at 2026-01-01T00:00:00Z: .spec.replicas"
    )
    forced = managed.apply(live, obj({"replicas": 2}), SHAPE, writer("m"), force=True)
    assert owners(forced) == {"m": {"f:spec": {"f:replicas": {}}}}


def test_two_conflicts_are_listed() -> None:
    first = managed.apply(
        None, obj({"a": 1, "containers": [{"name": "x", "image": "1"}]}), SHAPE, writer("o"),
        force=False,
    )  # fmt: skip
    with pytest.raises(ApplyConflictError) as caught:
        managed.apply(
            first, obj({"a": 2, "containers": [{"name": "x", "image": "2"}]}), SHAPE, writer("m"),
            force=False,
        )  # fmt: skip
    assert str(caught.value).splitlines() == [
        'Apply failed with 2 conflicts: conflicts with "o":',
        "- .spec.a",
        '- .spec.containers[name="x"].image',
    ]


def test_the_same_value_is_no_conflict_and_is_shared() -> None:
    first = managed.apply(None, obj({"a": 1}), SHAPE, writer("m"), force=False)
    second = managed.apply(first, obj({"a": 1}), SHAPE, writer("n"), force=False)
    assert owners(second) == {"m": {"f:spec": {"f:a": {}}}, "n": {"f:spec": {"f:a": {}}}}


def test_an_update_takes_what_it_changes() -> None:
    first = managed.apply(None, obj({"a": 1, "b": 1}), SHAPE, writer("m"), force=False)
    changed = copy.deepcopy(first)
    changed["spec"]["a"] = 2
    after = managed.track(first, changed, SHAPE, writer("edit"))
    assert owners(after) == {"m": {"f:spec": {"f:b": {}}}, "edit": {"f:spec": {"f:a": {}}}}


def test_an_update_without_change_leaves_times_alone() -> None:
    first = managed.track(None, obj({"a": 1}), SHAPE, writer("m"))
    again = managed.track(first, copy.deepcopy(first), SHAPE, writer("m", "2027-01-01T00:00:00Z"))
    assert again == first


def test_old_update_managers_are_folded() -> None:
    live = managed.track(None, obj({}), SHAPE, writer("m"))
    for number in range(30):
        new = copy.deepcopy(live)
        new["spec"][f"f{number}"] = number
        live = managed.track(
            live, new, SHAPE, writer(f"m{number}", f"2026-01-01T00:00:{number:02}Z")
        )
    entries = live["metadata"]["managedFields"]
    assert len(entries) == managed.UPDATE_MANAGERS_MAX
    assert "ancient-changes" in owners(live)


def test_ownership_can_be_reset() -> None:
    first = managed.track(None, obj({"a": 1}), SHAPE, writer("m"))
    reset = copy.deepcopy(first)
    reset["metadata"]["managedFields"] = [{}]
    assert "managedFields" not in managed.track(first, reset, SHAPE, writer("m"))["metadata"]


def test_the_order_of_items_follows_the_configuration() -> None:
    live = managed.track(None, obj({"containers": [{"name": "a"}, {"name": "s"}, {"name": "b"}]}),
                         SHAPE, writer("inject"))  # fmt: skip
    config = obj({"containers": [{"name": "n"}, {"name": "a"}, {"name": "b"}]})
    after = managed.apply(live, config, SHAPE, writer("m"), force=False)
    assert [c["name"] for c in after["spec"]["containers"]] == ["n", "a", "s", "b"]


scalars = st.one_of(st.integers(0, 3), st.text("ab", max_size=2), st.booleans())
specs = st.fixed_dictionaries(
    {},
    optional={
        "a": scalars,
        "b": st.dictionaries(st.sampled_from("xyz"), scalars, max_size=3),
        "args": st.lists(scalars, max_size=3),
        "finalizers": st.lists(st.sampled_from(["f", "g", "h"]), unique=True),
        "selector": st.dictionaries(st.sampled_from("xyz"), st.text("ab", max_size=1)),
        "containers": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["p", "q", "r"])},
                optional={"image": st.text("12", max_size=1), "env": st.lists(
                    st.fixed_dictionaries({"name": st.sampled_from("uv")},
                                          optional={"value": scalars}),
                    unique_by=lambda e: e["name"], max_size=2)},
            ),
            unique_by=lambda c: c["name"],
            max_size=3,
        ),
    },
)  # fmt: skip


@given(specs, specs)
def test_applying_twice_is_applying_once(first: Any, second: Any) -> None:
    live = managed.apply(None, obj(first), SHAPE, writer("m"), force=False)
    once = managed.apply(live, obj(second), SHAPE, writer("m"), force=False)
    twice = managed.apply(
        once, obj(second), SHAPE, writer("m", "2030-01-01T00:00:00Z"), force=False
    )
    assert twice == once


@given(specs, specs)
def test_applied_values_are_there(first: Any, second: Any) -> None:
    live = managed.track(None, obj(first), SHAPE, writer("u"))
    after = managed.apply(live, obj(second), SHAPE, writer("m"), force=True)
    if "a" in second:
        assert after["spec"]["a"] == second["a"]
    named = {c["name"] for c in after["spec"].get("containers", [])}
    assert {c["name"] for c in second.get("containers", [])} <= named


@given(specs, specs)
def test_what_one_manager_applied_alone_it_can_take_back(first: Any, second: Any) -> None:
    live = managed.apply(None, obj(first), SHAPE, writer("m"), force=False)
    both = managed.apply(live, obj(second), SHAPE, writer("n"), force=True)
    after = managed.apply(both, obj({}), SHAPE, writer("n"), force=False)
    assert owners(after)["n"] == {"f:spec": {}}


@given(st.sets(st.lists(st.sampled_from(["f:a", "f:b", 'k:{"n":"x"}', 'v:"y"']), min_size=1,
                        max_size=4).map(tuple)))  # fmt: skip
def test_path_sets_survive_their_written_form(found: set[paths.Path]) -> None:
    assert paths.from_fields_v1(paths.to_fields_v1(found)) == frozenset(found)


@given(specs, specs)
def test_merge_patch_laws(current: Any, patch: Any) -> None:
    once = merge_patch(current, patch)
    assert merge_patch(once, patch) == once
    assert merge_patch(current, {}) == current
