"""A model by its Hugging Face name is fetched once, by the engine's own client.

Method: a hub on loopback that serves one folder as the Hub's HTTP interface does (a listing of a
revision, and files with a commit and an entity tag), which the client is pointed to by HF_ENDPOINT.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inferway.base.errors import InferwayError
from inferway.cli.vllm import choice
from inferway.cli.vllm.home import engine_home

NAME = "test-org/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def handler(folder: Path, asked: list[str]) -> type[BaseHTTPRequestHandler]:
    """Serves the folder as the repository NAME and notes every path that was asked for."""

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(whole=False)

        def do_GET(self) -> None:
            self._answer(whole=True)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

        def _answer(self, *, whole: bool) -> None:
            path = self.path.partition("?")[0]
            asked.append(path)
            files = sorted(folder.iterdir())
            if path.startswith(f"/api/models/{NAME}/tree/"):
                tree = [
                    {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": COMMIT}
                    for file in files
                ]
                self._send(json.dumps(tree).encode(), whole)
            elif path.startswith(f"/api/models/{NAME}"):
                about = {
                    "id": NAME,
                    "sha": COMMIT,
                    "siblings": [{"rfilename": f.name} for f in files],
                }
                self._send(json.dumps(about).encode(), whole)
            elif path.startswith(f"/{NAME}/resolve/"):
                self._send((folder / path.rpartition("/")[2]).read_bytes(), whole)
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _send(self, body: bytes, whole: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if whole:
                self.wfile.write(body)

    return Hub


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def env(asked: list[str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose hub is on loopback and whose cache is empty."""
    folder = engine_home(os.environ).models / "random-qwen2"
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(folder, asked))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    yield own | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_is_downloaded_by_its_name_and_found_again(
    env: dict[str, str], asked: list[str]
) -> None:
    first = choice.choose("vllm", [NAME], env, empty=False)
    assert first.served is not None
    assert first.served.folder is not None
    folder = engine_home(env).models / "random-qwen2"
    for file in folder.iterdir():
        assert (first.served.folder / file.name).read_bytes() == file.read_bytes()
    assert first.models[NAME] == first.models["Qwen/Qwen2.5-1.5B-Instruct"]
    assert asked
    asked.clear()
    assert choice.choose("vllm", [NAME], env, empty=False).served == first.served
    assert asked == []


def test_a_name_that_the_hub_does_not_know_is_said(env: dict[str, str]) -> None:
    with pytest.raises(InferwayError, match="test-org/other") as refused:
        choice.choose("vllm", ["test-org/other"], env, empty=False)
    assert refused.value.code == "INFERWAY0125"
    assert "--model test-org/other=FOLDER" in refused.value.fix
