"""State on disk: restarts, kill -9, damage, two servers on one folder, a port in use."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from apiserver_rig import CONFIG_MAPS, WIDGETS, config_map, running, widget_definition

from inferway.base.errors import InferwayError
from inferway.local.apiserver.server import ApiServer, ApiServerOptions

_CHILD = """
import asyncio, sys
from pathlib import Path
from inferway.local.apiserver.server import ApiServer, ApiServerOptions

async def main():
    async with ApiServer(ApiServerOptions(Path(sys.argv[1]), port=0)) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_restart_keeps_objects_revisions_and_credentials(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        made = await rig.ok("POST", CONFIG_MAPS, config_map("a", {"k": "v"}))
        await rig.ok(
            "POST",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            widget_definition(),
        )
        widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
        await rig.ok("POST", WIDGETS, {**widget, "spec": {"size": 1}})
        revision, token = rig.server.revision, rig.token
    async with running(tmp_path) as rig:
        assert rig.token == token
        assert rig.server.revision >= revision
        assert await rig.ok("GET", f"{CONFIG_MAPS}/a") == made
        assert (await rig.ok("GET", f"{WIDGETS}/w"))["spec"]["size"] == 1
        # The log is on disk too, so a watcher goes on where it was.
        version = int(made["metadata"]["resourceVersion"]) - 1
        async with rig.watch(f"{CONFIG_MAPS}?watch=1&resourceVersion={version}") as events:
            assert (await anext(events))["object"] == made


@pytest.mark.slow
async def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Writes until the server is killed in the middle of them, then counts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHILD, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    acknowledged: list[str] = []
    async with _raw_session(tmp_path) as (session, headers):

        async def write() -> None:
            for number in range(100_000):
                name = f"m{number}"
                body = json.dumps(config_map(name))
                async with session.post(url + CONFIG_MAPS, data=body, headers=headers) as answer:
                    assert answer.status == 201
                acknowledged.append(name)
                if number == 200:
                    process.send_signal(signal.SIGKILL)

        with pytest.raises(aiohttp.ClientError):
            await write()
    await process.wait()
    assert len(acknowledged) > 200
    async with running(tmp_path) as rig:
        listed = await rig.ok("GET", CONFIG_MAPS)
        names = {item["metadata"]["name"] for item in listed["items"]}
        assert set(acknowledged) <= names


@asynccontextmanager
async def _raw_session(state: Path) -> AsyncIterator[tuple[aiohttp.ClientSession, dict[str, str]]]:
    """A client of a server in another process."""
    user = yaml.safe_load((state / "kubeconfig").read_text())["users"][0]["user"]
    context = ssl.create_default_context(cafile=str(state / "pki" / "ca.crt"))
    headers = {"Authorization": f"Bearer {user['token']}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session, headers


async def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    file = tmp_path / "objects.db"
    damaged = b"not a database" + file.read_bytes()[14:]
    file.write_bytes(damaged)
    with pytest.raises(InferwayError) as caught:
        async with running(tmp_path):
            pass
    assert caught.value.code == "INFERWAY0150"
    assert str(file) in str(caught.value)
    assert "move it away" in caught.value.fix
    assert file.read_bytes() == damaged


async def test_a_full_disk_is_an_answer_and_loses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        made = await rig.ok("POST", CONFIG_MAPS, config_map("a", {"k": "v"}))
        connection = rig.server._store._database._connection  # type: ignore[union-attr]
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages}")
        large = config_map("b", {"k": "x" * 100_000})
        answer = await rig.call("POST", CONFIG_MAPS, large)
        assert answer.status == 500
        assert "the state can not be written: database or disk is full" in answer.message
        assert (await rig.call("GET", f"{CONFIG_MAPS}/b")).status == 404
        connection.execute("PRAGMA max_page_count=1000000")
        await rig.ok("POST", CONFIG_MAPS, large)
        assert await rig.ok("GET", f"{CONFIG_MAPS}/a") == made


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "objects.db") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(InferwayError) as caught:
        async with running(tmp_path):
            pass
    assert caught.value.code == "INFERWAY0151"


async def test_two_servers_do_not_share_a_state(tmp_path: Path) -> None:
    async with running(tmp_path):
        with pytest.raises(InferwayError) as caught:
            async with running(tmp_path):
                pass
    assert caught.value.code == "INFERWAY0152"
    async with running(tmp_path):
        pass


async def test_damaged_certificates_are_named(tmp_path: Path) -> None:
    async with running(tmp_path):
        pass
    (tmp_path / "pki" / "ca.key").write_text("nothing")
    with pytest.raises(InferwayError) as caught:
        async with running(tmp_path):
            pass
    assert caught.value.code == "INFERWAY0153"


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InferwayError) as caught:
            async with ApiServer(ApiServerOptions(tmp_path, port=port)):
                pass
    assert caught.value.code == "INFERWAY0154"
    assert f"127.0.0.1:{port}" in str(caught.value)
    # The failed start holds nothing: the same state starts elsewhere.
    async with running(tmp_path):
        pass


async def test_a_kubeconfig_that_is_a_folder(tmp_path: Path) -> None:
    place = tmp_path / "kubeconfig"
    place.mkdir()
    options = ApiServerOptions(tmp_path / "state", port=0, kubeconfig=place)
    with pytest.raises(InferwayError) as caught:
        async with ApiServer(options):
            pass
    assert caught.value.code == "INFERWAY0155"
    assert str(place) in str(caught.value)
    assert list(tmp_path.glob(".kubeconfig*")) == []
