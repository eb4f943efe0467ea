"""Containers of podman and docker: the command line, the pull, the choice of a network."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferway.api import codec
from inferway.api.pods import Pod
from inferway.base.errors import UsageError
from inferway.local.node import containerengine, containing, images, launching
from inferway.local.node.containerargs import ContainerCall, ContainerNetwork, make_container
from inferway.local.node.containerengine import ContainerEngine, ContainerImage
from inferway.local.node.environment import EnvironmentSources, MissingError
from inferway.local.node.images import ImageProblem, Mapping, Programs
from inferway.local.node.launching import Machine
from inferway.local.node.sandboxes import Isolation

TESTDATA = Path(__file__).parent / "testdata"
CASES = sorted(TESTDATA.glob("container-*.in.yaml"))
Object = dict[str, Any]


def pod_of(spec: Object) -> Pod:
    return codec.decode(Pod, {"metadata": {"name": "web", "namespace": "ns"}, "spec": spec})


def made(case: Object) -> Object:
    """What the case says of Pod and place, as argv and environment of the client."""
    pod = pod_of(case["pod"])
    place = launching.PodPlace(
        pod_ip="127.77.1.5",
        host_network=case.get("hostNetwork", False),
        isolated=True,
        folders={name: (folder, False) for name, folder in case.get("folders", {}).items()},
        logs=Path("/logs"),
        extra_mounts=(("/state/hosts", "/etc/hosts", False),),
        services={"WEB_SERVICE_HOST": "127.77.2.1"},
        api_server=("127.77.0.1", "6443"),
    )
    sources = EnvironmentSources(
        pod=pod,
        pod_ip="127.77.1.5",
        host_ip="127.77.0.2",
        node_name="inferway",
        config_map=lambda _: None,
        secret={"keys": {"token": "secret"}}.get,
        allocatable={"cpu": Decimal(1)},
    )
    network = case["network"]
    call = ContainerCall(
        program="/usr/bin/podman",
        name="inferway-web-1",
        image=pod.spec.containers[0].image,
        network=ContainerNetwork(
            network["mode"], network.get("value", ""), tuple(network.get("ports", ()))
        ),
        labels={"dev.inferway.state": "s", "dev.inferway.pod": "u"},
        client={"PATH": "/usr/bin", "HOME": "/root"},
        host_name="web",
        with_limits=case.get("limits", False),
        pod_security=pod.spec.security_context,
    )
    mapping = Mapping(match=("x",), env=case.get("mapped", {}))
    launch = make_container(pod.spec.containers[0], mapping, place, sources, call, 2)
    return {"argv": launch.argv, "env": launch.env, "log": launch.log}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name.partition(".")[0])
def test_the_command_line(path: Path) -> None:
    found = made(yaml.safe_load(path.read_text()))
    golden = path.with_name(path.name.replace(".in.yaml", ".out.yaml"))
    assert found == yaml.safe_load(golden.read_text())


def test_a_volume_that_cannot_be_named() -> None:
    case = yaml.safe_load((TESTDATA / "container-full.in.yaml").read_text())
    case["folders"]["data"] = "/a:b"
    with pytest.raises(MissingError, match="colon"):
        made(case)


class Stand:
    """A stand-in for podman: a script of answers, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "podman"
        self.asked = folder / "asked"

    def answers(self, script: str) -> ContainerEngine:
        """``script`` runs in a shell with ``$*`` as podman's words."""
        self.asked.touch()
        self.program.write_text(f'#!/bin/sh\necho "$*" >> {self.asked}\n{script}\n')
        self.program.chmod(0o755)
        return ContainerEngine("podman", str(self.program), {"PATH": "/usr/bin:/bin"})

    @property
    def words(self) -> list[str]:
        return self.asked.read_text().splitlines()


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


HERE = 'case "$*" in image*) echo 0123;; esac'
NOWHERE = 'case "$*" in image*) exit 125;; pull*) echo "Error: no host" >&2; exit 125;; esac'
FETCHED = (
    'case "$*" in image*) [ -e "$0.got" ] || exit 125; echo sha256:9;; pull*) touch "$0.got";; esac'
)


@pytest.mark.parametrize(
    ("script", "image", "policy", "found", "words"),
    [
        (HERE, "a/b:1", "", ContainerImage("sha256:0123"), ["image"]),
        (HERE, "a/b:1", "Never", ContainerImage("sha256:0123"), ["image"]),
        (
            NOWHERE,
            "a/b:1",
            "Never",
            ImageProblem(
                "ErrImageNeverPull",
                'Container image "a/b:1" is not present with pull policy of Never',
            ),
            ["image"],
        ),
        (
            NOWHERE,
            "a/b:1",
            "",
            ImageProblem("ErrImagePull", "podman: Error: no host"),
            ["image", "pull -q docker.io/a/b:1", "image"],
        ),
        (
            FETCHED,
            "a/b:1",
            "IfNotPresent",
            ContainerImage("sha256:9", 'Successfully pulled image "a/b:1" in 1.000s'),
            ["image", "pull -q docker.io/a/b:1", "image"],
        ),
        # An image that was loaded here stands for a registry that does not answer.
        (
            'case "$*" in image*) echo 0123;; pull*) exit 1;; esac',
            "a/b",
            "",
            ContainerImage("sha256:0123"),
            ["pull -q docker.io/a/b", "image"],
        ),
    ],
)
async def test_pulling(
    stand: Stand,
    script: str,
    image: str,
    policy: str,
    found: ContainerImage | ImageProblem,
    words: list[str],
) -> None:
    times = iter((10.0, 11.0))
    told: list[str] = []
    engine = stand.answers(script)
    result = await engine.image(image, policy, lambda: next(times), lambda: told.append("pulling"))
    assert result == found
    assert all(one.startswith(word) for one, word in zip(stand.words, words, strict=True))
    assert told == (["pulling"] if any(word.startswith("pull") for word in words) else [])


async def test_an_engine_that_is_not_there() -> None:
    engine = ContainerEngine("podman", "/no/such/podman", {})
    result = await engine.image("a:1", "", lambda: 0.0, lambda: None)
    assert isinstance(result, ImageProblem)
    assert "No such file" in result.message
    assert await engine.leftovers("x") == []
    assert await engine.complaint()


@pytest.mark.parametrize(
    ("name", "policy", "full"),
    [
        ("busybox", "Always", "docker.io/library/busybox"),
        ("busybox:1", "IfNotPresent", "docker.io/library/busybox:1"),
        ("a/b:latest", "Always", "docker.io/a/b:latest"),
        ("localhost/a:1", "IfNotPresent", "localhost/a:1"),
        ("host:5000/a", "Always", "host:5000/a"),
        ("ghcr.io/a/b:v1", "IfNotPresent", "ghcr.io/a/b:v1"),
        ("a@sha256:" + "0" * 64, "IfNotPresent", "docker.io/library/a@sha256:" + "0" * 64),
    ],
)
def test_policies_and_full_names(name: str, policy: str, full: str) -> None:
    assert containerengine.default_policy(name) == policy
    assert containerengine.full_name(name) == full


def machine(find: Callable[[str], str | None]) -> Machine:
    return Machine(Programs(find, "/py"), {"PATH": "/usr/bin:/bin"})


async def test_a_runtime_that_is_missing_or_does_not_work(stand: Stand) -> None:
    with pytest.raises(UsageError, match="podman is not installed") as caught:
        await containing.require_engine("podman", machine(lambda _: None))
    assert caught.value.code == "INFERWAY0209"
    stand.answers('echo "Error: no such luck" >&2; exit 125')
    with pytest.raises(UsageError, match="podman does not work: Error: no such luck"):
        await containing.require_engine("podman", machine(lambda _: str(stand.program)))
    stand.answers("exit 0")
    await containing.require_engine("podman", machine(lambda _: str(stand.program)))
    await containing.require_engine("process", machine(lambda _: None))
    problem = containing.engine_of("docker", machine(lambda _: None))
    assert isinstance(problem, ImageProblem)
    assert "docker is not installed [INFERWAY0209]" in problem.message


async def test_leftovers_are_looked_for_where_there_can_be_some(
    tmp_path: Path, stand: Stand
) -> None:
    stand.answers('case "$*" in ps*) echo one; echo two;; esac')
    here = machine(lambda name: str(stand.program) if name == "podman" else None)
    assert await containing.remove_leftovers(tmp_path, here) == 0
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines/podman").touch()
    assert await containing.remove_leftovers(tmp_path, here) == 2
    label = f"label=dev.inferway.state={containing.state_label(tmp_path)}"
    assert stand.words == [
        f"ps --all --filter {label} --format {{{{.Names}}}}",
        "rm --force --volumes one",
        "rm --force --volumes two",
    ]


def test_the_ports_that_are_published() -> None:
    pod = pod_of(
        {
            "containers": [
                {
                    "name": "a",
                    "image": "a:1",
                    "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}],
                    "readinessProbe": {"httpGet": {"port": 81}},
                    "livenessProbe": {"tcpSocket": {"port": "http"}},
                },
                {"name": "b", "image": "inferway/inferway:1", "ports": [{"containerPort": 90}]},
            ]
        }
    )
    own = images.Entry(Mapping(match=("inferway/*",), runtime="process"), "f", 1)
    table = images.ImageTable((own,), "f", runtime="podman")
    specs = containing.contained_specs(table, pod)
    assert [spec.name for spec in specs] == ["a"]
    assert containing.known_ports(specs[0]) == [80, 81]
    private = Isolation("proc", user_namespace=True, network=True)
    assert containing.leaves_pod_network(table, pod, private)
    assert not containing.leaves_pod_network(images.ImageTable((own,), "f"), pod, private)
    assert not containing.can_join("docker", Isolation("proc", network=True))
