"""Who gets in, and with what: certificate, token, service account; everyone else is 401."""

from __future__ import annotations

import ssl
import stat

import aiohttp
import pytest
from apiserver_rig import CORE, PODS, Rig, pod


async def test_strangers_get_401_and_health_is_open(rig: Rig) -> None:
    for path in ("/api", "/apis/apps/v1/deployments", "/openapi/v3", "/", f"{PODS}/a"):
        for header in ("", "Bearer wrong", "Basic YTpi"):
            headers = {"Authorization": header} if header else {}
            async with rig.session.get(rig.server.url + path, headers=headers) as response:
                assert response.status == 401
                body = await response.json()
                assert (body["kind"], body["reason"]) == ("Status", "Unauthorized")
    for path in ("/healthz", "/livez", "/readyz", "/readyz/ping", "/version"):
        async with rig.session.get(rig.server.url + path) as response:
            assert response.status == 200


async def test_files_with_secrets_are_private(rig: Rig) -> None:
    state = rig.server.options.state
    files = [rig.server.kubeconfig, *(state / "pki").iterdir(), *state.glob("objects.*")]
    assert {file.name for file in files} >= {"kubeconfig", "ca.key", "objects.db", "objects.db-wal"}
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_the_client_certificate_is_enough(rig: Rig) -> None:
    folder = rig.server.options.state / "pki"
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "admin.crt", folder / "admin.key")
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(rig.server.url + "/api/v1/namespaces") as response,
    ):
        assert response.status == 200


async def test_a_service_account_token_lives_as_long_as_its_pod(rig: Rig) -> None:
    made = await rig.ok("POST", PODS, pod("a"))
    reference = {"kind": "Pod", "apiVersion": "v1", "name": "a", "uid": made["metadata"]["uid"]}
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3607, "boundObjectRef": reference},
    }
    path = f"{CORE}/serviceaccounts/default/token"
    token = (await rig.ok("POST", path, request))["status"]["token"]
    whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    bearer = {"Authorization": f"Bearer {token}"}
    answer = await rig.call("POST", whoami, {}, **bearer)
    assert answer.body["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"
    forged = f"{token[:-8]}{'A' * 8}"
    refused = await rig.call("POST", whoami, {}, Authorization=f"Bearer {forged}")
    assert refused.status == 401
    review = {"spec": {"token": token}}
    reviewed = await rig.ok("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
    assert reviewed["status"]["authenticated"] is True
    await rig.ok("DELETE", f"{PODS}/a")
    assert (await rig.call("POST", whoami, {}, **bearer)).status == 401


@pytest.mark.parametrize("seconds", [1, 599, "long"])
async def test_tokens_live_ten_minutes_at_least(rig: Rig, seconds: object) -> None:
    body = {"spec": {"expirationSeconds": seconds}}
    answer = await rig.call("POST", f"{CORE}/serviceaccounts/default/token", body)
    assert answer.status == 422
    assert "may not specify a duration less than 10 minutes" in answer.message


async def test_a_client_may_be_taken_for_another(rig: Rig) -> None:
    whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    answer = await rig.call("POST", whoami, {}, Impersonate_User="jane", Impersonate_Group="dev")
    info = answer.body["status"]["userInfo"]
    assert (info["username"], info["groups"]) == ("jane", ["dev", "system:authenticated"])


async def test_access_reviews_say_yes(rig: Rig) -> None:
    body = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert (await rig.ok("POST", path, body))["status"]["allowed"] is True
