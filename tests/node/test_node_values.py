"""Pure parts of the node: environment, volumes, addresses, capacity, routes, logs, certificates."""

from __future__ import annotations

import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.api import codec
from inferway.api.core import Service
from inferway.api.discovery import EndpointSlice
from inferway.api.pods import Container, Pod, Volume
from inferway.base.errors import InferwayError, UsageError
from inferway.local.node import capacity, environment, logreader, volumes
from inferway.local.node.addresses import ADDRESSES, PodAddresses
from inferway.local.node.atomic import write_files
from inferway.local.node.environment import EnvironmentSources, MissingError
from inferway.local.node.face import read_query
from inferway.local.node.sandbox.logfile import LINE_BYTES_MAX, LogFile
from inferway.local.node.services import routes
from inferway.local.node.volumes import File, VolumeSources

POD = {
    "metadata": {
        "name": "p",
        "namespace": "n",
        "uid": "u",
        "labels": {"b": 'x"y', "a": "1"},
        "annotations": {"note": "text"},
    },
    "spec": {
        "containers": [
            {"name": "c", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "1Mi"}}}
        ]
    },
}


def sources(**more: Any) -> EnvironmentSources:
    fields: dict[str, Any] = {
        "pod": codec.decode(Pod, POD),
        "pod_ip": "127.77.1.1",
        "host_ip": "127.77.0.2",
        "node_name": "inferway",
        "config_map": {"m": {"k": "v", "other": "w"}}.get,
        "secret": {"s": {"k": "secret"}}.get,
        "allocatable": {"memory": Decimal(1024)},
    }
    return EnvironmentSources(**{**fields, **more})


def variables(*env: dict[str, Any], **container: Any) -> dict[str, str]:
    raw = {"name": "c", "env": list(env), **POD["spec"]["containers"][0], **container}  # type: ignore[index]
    return environment.container_environment(codec.decode(Container, raw), sources(), {"BASE": "b"})


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("$(A)$(A)", "11"),
        ("$$(A)", "$(A)"),
        ("$(NO)", "$(NO)"),
        ("$A", "$A"),
        ("$", "$"),
        ("$$", "$"),
        ("a$(A", "a$(A"),
        ("$(B)", "$(A)"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    assert environment.expand(text, {"A": "1", "B": "$(A)"}) == expanded


def test_the_order_of_variables() -> None:
    found = variables(
        {"name": "X", "value": "$(k)-$(BASE)-$(LATER)"},
        {"name": "LATER", "value": "l"},
        {"name": "k", "value": "own"},
        envFrom=[{"configMapRef": {"name": "m"}}, {"prefix": "S_", "secretRef": {"name": "s"}}],
    )
    assert found == {
        "BASE": "b",
        "k": "own",
        "other": "w",
        "S_k": "secret",
        "X": "v-b-$(LATER)",
        "LATER": "l",
    }


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ({"fieldRef": {"fieldPath": "metadata.name"}}, "p"),
        ({"fieldRef": {"fieldPath": "metadata.labels['a']"}}, "1"),
        ({"fieldRef": {"fieldPath": "metadata.annotations['note']"}}, "text"),
        ({"fieldRef": {"fieldPath": "status.hostIP"}}, "127.77.0.2"),
        ({"fieldRef": {"fieldPath": "spec.serviceAccountName"}}, "default"),
        ({"resourceFieldRef": {"resource": "limits.cpu"}}, "2"),
        ({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}, "1500"),
        ({"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Ki"}}, "1024"),
        ({"resourceFieldRef": {"resource": "limits.memory"}}, "1024"),
        ({"configMapKeyRef": {"name": "m", "key": "k"}}, "v"),
        ({"secretKeyRef": {"name": "s", "key": "k"}}, "secret"),
        ({"secretKeyRef": {"name": "none", "key": "k", "optional": True}}, None),
    ],
)
def test_sources_of_variables(source: dict[str, Any], value: str | None) -> None:
    assert variables({"name": "V", "valueFrom": source}).get("V") == value


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "k"}}, 'configmap "no" not found'),
        ({"secretKeyRef": {"name": "s", "key": "x"}}, "couldn't find key x in Secret n/s"),
        ({"fieldRef": {"fieldPath": "spec.nope"}}, "unsupported fieldPath: spec.nope"),
    ],
)
def test_missing_sources(source: dict[str, Any], message: str) -> None:
    with pytest.raises(MissingError) as caught:
        variables({"name": "V", "valueFrom": source})
    assert str(caught.value) == message


def test_service_variables() -> None:
    service = {
        "metadata": {"name": "my-db"},
        "spec": {"clusterIP": "127.77.128.9", "ports": [{"name": "sql", "port": 5432}]},
    }
    headless = {"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}
    assert environment.service_variables([service, headless]) == {
        "MY_DB_SERVICE_HOST": "127.77.128.9",
        "MY_DB_SERVICE_PORT": "5432",
        "MY_DB_SERVICE_PORT_SQL": "5432",
        "MY_DB_PORT": "tcp://127.77.128.9:5432",
        "MY_DB_PORT_5432_TCP": "tcp://127.77.128.9:5432",
        "MY_DB_PORT_5432_TCP_PROTO": "tcp",
        "MY_DB_PORT_5432_TCP_PORT": "5432",
        "MY_DB_PORT_5432_TCP_ADDR": "127.77.128.9",
    }


def files_of(volume: dict[str, Any]) -> dict[str, File] | None:
    found = VolumeSources(
        sources(),
        {"m": {"k": b"v", "other": b"w"}}.get,
        {"s": {"k": b"secret"}}.get,
        lambda _: b"token",
    )
    return volumes.volume_files(codec.decode(Volume, {"name": "v", **volume}), found)


ITEM = {"key": "k", "path": "d/f"}


@pytest.mark.parametrize(
    ("volume", "files"),
    [
        ({"emptyDir": {}}, None),
        ({"configMap": {"name": "m"}}, {"k": File(b"v"), "other": File(b"w")}),
        (
            {
                "configMap": {
                    "name": "m",
                    "defaultMode": 0o600,
                    "items": [{"key": "k", "path": "d/f"}],
                }
            },
            {"d/f": File(b"v", 0o600)},
        ),
        ({"configMap": {"name": "no", "optional": True}}, {}),
        ({"secret": {"secretName": "s"}}, {"k": File(b"secret")}),
        (
            {
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "token"}},
                        {"configMap": {"name": "m", "items": [{"key": "k", "path": "ca"}]}},
                        {
                            "downwardAPI": {
                                "items": [
                                    {"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}
                                ]
                            }
                        },
                    ]
                }
            },
            {"token": File(b"token"), "ca": File(b"v"), "l": File(b'a="1"\nb="x\\"y"')},
        ),
    ],
)
def test_files_of_volumes(volume: dict[str, Any], files: dict[str, File] | None) -> None:
    assert files_of(volume) == files


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
        (
            {"secret": {"secretName": "s", "items": [{"key": "x", "path": "x"}]}},
            "references non-existent secret key: x",
        ),
    ],
)
def test_missing_files(volume: dict[str, Any], message: str) -> None:
    with pytest.raises(MissingError) as caught:
        files_of(volume)
    assert str(caught.value) == message


def test_the_service_account_volume_is_added_once() -> None:
    pod = codec.decode(Pod, POD)
    assert [v.name for v in volumes.pod_volumes(pod, with_account=True)] == [
        "kube-api-access-inferway"
    ]
    assert volumes.pod_volumes(pod, with_account=False) == ()
    mounted = {"name": "x", "mountPath": volumes.SERVICE_ACCOUNT_DIR}
    own = {**POD, "spec": {"containers": [{"name": "c", "volumeMounts": [mounted]}]}}
    assert volumes.pod_volumes(codec.decode(Pod, own), with_account=True) == ()


def test_an_update_swaps_one_link(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    assert write_files(folder, {"a": File(b"1"), "d/b": File(b"2", 0o400)})
    first = (folder / "..data").readlink()
    assert (folder / "a").read_bytes() == b"1"
    assert (folder / "a").readlink() == Path("..data/a")
    assert stat.S_IMODE((folder / "d/b").stat().st_mode) == 0o400
    assert not write_files(folder, {"a": File(b"1"), "d/b": File(b"2", 0o400)})
    assert write_files(folder, {"a": File(b"3")})
    assert (folder / "..data").readlink() != first
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith("..")) == ["a"]
    assert not (folder / first).exists()


def test_addresses() -> None:
    pool = PodAddresses("127.77")
    assert [pool.allocate("a"), pool.allocate("b")] == ["127.77.1.1", "127.77.1.2"]
    assert not pool.claim("c", "127.77.1.1")
    assert pool.claim("a", "127.77.1.1")
    assert not pool.claim("c", "127.77.128.1")
    assert not pool.claim("c", "127.78.1.1")
    assert pool.claim("c", "127.77.1.3")
    pool.release("a")
    # What was freed is used last.
    assert pool.allocate("d") == "127.77.1.4"
    for number in range(ADDRESSES - 3):
        pool.allocate(str(number))
    with pytest.raises(InferwayError, match="INFERWAY0205"):
        pool.allocate("more")


@given(st.lists(st.sampled_from(["a", "b", "c", "-a", "-b"]), max_size=50))
def test_an_address_has_one_owner(steps: list[str]) -> None:
    pool = PodAddresses("127.77")
    owners: dict[str, set[str]] = {}
    for step in steps:
        if step.startswith("-"):
            pool.release(step[1:])
            owners.pop(step[1:], None)
        else:
            address = pool.allocate(step)
            assert all(address not in held for held in owners.values())
            owners.setdefault(step, set()).add(address)


def test_capacity() -> None:
    machine = {"cpu": "2", "memory": "1Ki"}
    assert capacity.read_capacity(None, machine) == machine
    assert capacity.read_capacity("cpu=16, memory=64Gi,nvidia.com/gpu=1", machine) == {
        "cpu": "16",
        "memory": "64Gi",
        "nvidia.com/gpu": "1",
    }
    for wrong in ("cpu", "cpu=", "=1", "cpu=x", "cpu=-1"):
        with pytest.raises(UsageError, match="INFERWAY0206"):
            capacity.read_capacity(wrong, machine)


def test_routes_lead_to_ready_endpoints() -> None:
    def service(name: str, **spec: Any) -> Service:
        meta = {"name": name, "namespace": "n"}
        return codec.decode(Service, {"metadata": meta, "spec": spec})

    def endpoints(name: str, port_name: str, *rows: tuple[str, bool]) -> EndpointSlice:
        return codec.decode(
            EndpointSlice,
            {
                "metadata": {
                    "name": name,
                    "namespace": "n",
                    "labels": {"kubernetes.io/service-name": name},
                },
                "ports": [{"name": port_name, "port": 8000}],
                "endpoints": [
                    {"addresses": [address], "conditions": {"ready": ready}}
                    for address, ready in rows
                ],
            },
        )

    services = [
        service("web", clusterIP="127.77.128.1", ports=[{"name": "http", "port": 80}]),
        service("none", clusterIP="None", ports=[{"port": 80}]),
        service("empty", clusterIP="127.77.128.2", ports=[{"port": 80}]),
    ]
    slices = [
        endpoints("web", "http", ("127.77.1.2", True), ("127.77.1.3", False)),
        endpoints("web", "http", ("127.77.1.1", True)),
        endpoints("none", "", ("127.77.1.9", True)),
    ]
    assert routes(services, slices) == {
        ("127.77.128.1", 80): [("127.77.1.1", 8000), ("127.77.1.2", 8000)]
    }


def test_logs_are_written_in_the_kubelets_form_and_rotate(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogFile(str(path), bytes_max=400)
    log.write("stdout", b"one\ntw")
    log.write("stderr", b"error\n")
    log.write("stdout", b"o\nrest")
    texts = [line.split(b" ", 1)[1] for line in path.read_bytes().splitlines()]
    assert texts == [b"stdout F one", b"stderr F error", b"stdout F two"]
    for number in range(50):
        log.write("stdout", f"line {number}\n".encode())
    log.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "0.log",
        *(f"0.log.{n}" for n in (1, 2, 3, 4)),
    ]
    query = logreader.LogQuery(tail_lines=3)
    found = b"".join(logreader.select(logreader.stored_lines(path), query))
    assert found == b"line 47\nline 48\nline 49\n"


def test_long_lines_are_cut_and_joined_again(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogFile(str(path))
    text = b"x" * (2 * LINE_BYTES_MAX + 10)
    log.write("stdout", text[:100])
    log.write("stdout", text[100:] + b"\n")
    log.close()
    lines = logreader.stored_lines(path)
    assert [line.split(b" ")[2] for line in lines] == [b"P", b"P", b"F"]
    assert b"".join(logreader.select(lines, logreader.LogQuery())) == text + b"\n"


LINES = [
    b"2026-01-01T00:00:00.500000000Z stdout F a",
    b"2026-01-01T00:00:01.500000000Z stderr F b",
    b"2026-01-01T00:00:02.500000000Z stdout F c",
    b"broken",
]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({}, "a\nb\nc\n"),
        ({"tail_lines": 1}, "c\n"),
        ({"tail_lines": 0}, ""),
        ({"tail_lines": 9}, "a\nb\nc\n"),
        ({"limit_bytes": 3}, "a\nb"),
        ({"stream": "stderr"}, "b\n"),
        ({"since_wall": 1767225601.0}, "b\nc\n"),
        ({"timestamps": True, "tail_lines": 1}, "2026-01-01T00:00:02.500000000Z c\n"),
    ],
)
def test_what_is_asked_of_a_log(query: dict[str, Any], text: str) -> None:
    assert b"".join(logreader.select(LINES, logreader.LogQuery(**query))).decode() == text


def test_a_log_is_followed_over_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    log = LogFile(str(path), bytes_max=200)
    tail = logreader.LogTail(path)
    found: list[bytes] = []
    for number in range(20):
        log.write("stdout", f"line {number}\n".encode())
        found += tail.read() + tail.read()
    tail.close()
    log.close()
    assert [line.rsplit(b" ", 1)[1] for line in found] == [str(n).encode() for n in range(20)]


def test_log_parameters() -> None:
    found = read_query({"follow": "true", "tailLines": "5", "sinceSeconds": "10"}, 100.0)
    assert (found.follow, found.tail_lines, found.since_wall) == (True, 5, 90.0)
    assert not read_query({"follow": "false"}, 0.0).follow
    for wrong in ({"tailLines": "-1"}, {"limitBytes": "x"}, {"sinceTime": "yesterday"}):
        with pytest.raises(ValueError, match="must be"):
            read_query(wrong, 0.0)
