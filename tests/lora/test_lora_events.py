"""Events about the syncer's Pod, written into a real embedded API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from inferway.api.resources import EVENTS, PODS
from inferway.base.clock import ManualClock
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient
from inferway.local.apiserver import pki
from inferway.local.apiserver.server import ApiServer, ApiServerOptions
from inferway.lora.events import (
    REFUSED_SECONDS,
    REPEAT_SECONDS,
    WAITING_MAX,
    Account,
    PodEvents,
    account,
)
from inferway.lora.messages import Note

LOADED = Note(False, "AdapterLoaded", "adapter food is loaded")
BROKEN = Note(True, "BrokenAdapter", "adapter cad: no adapter_config.json [INFERWAY0613]")


def pod() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "vllm-1", "namespace": "default"},
        "spec": {"containers": [{"name": "lora", "image": "vllm"}]},
    }


def mounted(folder: Path, token: str, ca: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(token)
    (folder / "namespace").write_text("default")
    (folder / "ca.crt").write_bytes(ca)
    return folder


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[tuple[KubeClient, dict[str, str], str]]:
    """An API server with a Pod: its client, the environment of the Pod, the Pod's uid."""
    async with (
        ApiServer(ApiServerOptions(state=folder / "state", port=0)) as server,
        KubeClient(kubeconfig.load(server.kubeconfig)) as client,
    ):
        made = await client.create(PODS, pod())
        uid = made["metadata"]["uid"]
        account_url = "/api/v1/namespaces/default/serviceaccounts"
        name = {"metadata": {"name": "syncer", "namespace": "default"}}
        await client.request(
            "POST", account_url, {"apiVersion": "v1", "kind": "ServiceAccount", **name}
        )
        bound = {"kind": "Pod", "apiVersion": "v1", "name": "vllm-1", "uid": uid}
        answer = await client.request(
            "POST",
            f"{account_url}/syncer/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"boundObjectRef": bound},
            },
        )
        ca = client.config.ca
        assert ca
        mount = mounted(folder / "account", answer["status"]["token"], ca)
        address = urlsplit(client.config.server)
        env = {
            "KUBERNETES_SERVICE_HOST": str(address.hostname),
            "KUBERNETES_SERVICE_PORT": str(address.port),
            "INFERWAY_SERVICE_ACCOUNT_DIR": str(mount),
            "HOSTNAME": "another-name",
        }
        yield client, env, uid


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:shutdown_timeout should be set:DeprecationWarning")
async def test_events_are_about_the_pod_that_the_token_is_bound_to(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (client, env, uid):
        where = account(env)
        assert where is not None
        assert (where.pod, where.uid) == ("vllm-1", uid)
        events = PodEvents(where, ManualClock())
        for note in (LOADED, BROKEN, LOADED):
            events.note(note)
        await events.flush()
        found = (await client.list(EVENTS, "default", fields=f"involvedObject.uid={uid}")).items
    told = [(e["type"], e["reason"], e["message"]) for e in found]
    assert sorted(told) == [
        ("Normal", LOADED.reason, LOADED.message),
        ("Warning", BROKEN.reason, BROKEN.message),
    ]
    assert {e["source"]["component"] for e in found} == {"inferway-lora-syncer"}


@asynccontextmanager
async def refusing(folder: Path, status: list[int], seen: list[str]) -> AsyncIterator[Account]:
    """A server that answers with a status, the first of the list, and notes what it was sent."""

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append((await request.json())["reason"])
        return web.Response(status=status[0])

    keys = pki.load_or_create(folder / "pki", "127.0.0.1")
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=keys.serving_context())
    await site.start()
    try:
        yield Account(
            url=f"https://127.0.0.1:{runner.addresses[0][1]}",
            folder=mounted(folder / "account", "token", keys.ca.certificate),
            namespace="default",
            pod="vllm-1",
        )
    finally:
        await runner.cleanup()


async def test_a_refusal_is_told_once_and_asked_again_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    status, seen = [403], list[str]()
    clock = ManualClock()
    async with refusing(tmp_path, status, seen) as where:
        events = PodEvents(where, clock)
        for note in (LOADED, BROKEN):
            events.note(note)
        await events.flush()
        assert seen == ["AdapterLoaded"]
        assert caplog.text.count("Events are not written") == 1
        clock.advance(REFUSED_SECONDS)
        status[0] = 201
        events.note(BROKEN)
        await events.flush()
        assert seen == ["AdapterLoaded", "BrokenAdapter"]
        # The same words are one Event for a while.
        events.note(BROKEN)
        await events.flush()
        clock.advance(REPEAT_SECONDS)
        events.note(BROKEN)
        await events.flush()
        assert seen == ["AdapterLoaded", "BrokenAdapter", "BrokenAdapter"]


async def test_a_server_that_is_gone_fails_nothing(tmp_path: Path) -> None:
    async with refusing(tmp_path, [201], []) as where:
        pass
    events = PodEvents(where, ManualClock())
    for number in range(2 * WAITING_MAX):
        events.note(Note(True, "LoadFailed", str(number)))
    await events.flush()


async def test_without_an_account_there_are_no_events(tmp_path: Path) -> None:
    env = {"INFERWAY_SERVICE_ACCOUNT_DIR": str(tmp_path), "KUBERNETES_SERVICE_HOST": "h"}
    assert account(env) is None
    events = PodEvents(None, ManualClock())
    events.note(BROKEN)
    await events.flush()
    await events.run()


@pytest.mark.parametrize("token", ["", "a.b.c", "a", "x.e30.y", "x.bnVsbA.y"])
def test_a_pod_that_no_token_names_is_taken_from_the_environment(
    tmp_path: Path, token: str
) -> None:
    mount = mounted(tmp_path / "account", token, b"")
    env = {
        "KUBERNETES_SERVICE_HOST": "fd00::1",
        "KUBERNETES_SERVICE_PORT": "443",
        "INFERWAY_SERVICE_ACCOUNT_DIR": str(mount),
        "HOSTNAME": "vllm-2",
    }
    found = account(env)
    assert found is not None
    assert (found.url, found.pod, found.uid) == ("https://[fd00::1]:443", "vllm-2", "")
    found = account({**env, "POD_NAME": "vllm-3", "POD_UID": "u"})
    assert found is not None
    assert (found.pod, found.uid) == ("vllm-3", "u")
