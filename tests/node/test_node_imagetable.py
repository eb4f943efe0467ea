"""The image table of a running node: Pods that wait for an entry, wrong files, shells of vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from node_cluster import Cluster, cluster, events_of, eventually, phase, waiting_for

from inferway.api.resources import EVENTS

pytestmark = pytest.mark.slow


async def test_a_new_entry_starts_the_pod_that_waits_for_it(tmp_path: Path) -> None:
    async with cluster(tmp_path) as own:
        file = own.state / "node/images.yaml"
        await own.create_pod("late", {"containers": [{"name": "a", "image": "example/app:1"}]})
        await own.pod_until("late", waiting_for("a", "ErrImagePull"))
        await own.pod_until("late", waiting_for("a", "ImagePullBackOff"))
        file.write_text("images: [{match: [example/app], run: [sleep, '60'], nope: 1}]")
        about = {"kind": "Node", "name": "inferway"}
        told = await eventually(lambda: _about(own, about))
        assert told[0]["reason"] == "InvalidImageTable"
        assert f"{file}: line 1: images[0].nope: unknown field nope" in told[0]["message"]
        file.write_text("images: [{match: [example/app], run: [sleep, '60']}]")
        await own.pod_until("late", phase("Running"), seconds=5)
        found = await events_of(own, "late")
        assert [reason for reason, _ in found if reason == "Pulled"] == ["Pulled"]
        assert ("BackOff", 'Back-off pulling image "example/app:1"') in found
        assert ("Pulling", 'Pulling image "example/app:1"') in found


async def _about(stack: Cluster, about: dict[str, str]) -> list[Any]:
    items = (await stack.client.list(EVENTS, "default")).items
    return [item for item in items if about.items() <= item["involvedObject"].items()]


async def test_a_shell_of_an_image_of_vllm_finds_the_simulated_server(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        script = "command -v vllm; python3 -c 'print(6 * 7)'; exec vllm serve --help"
        image = {"image": "vllm/vllm-openai:v0.10.2", "command": ["/bin/sh", "-c", script]}
        await stack.create_pod(
            "shelled", {"containers": [{"name": "main", **image}], "restartPolicy": "Never"}
        )
        pod = await stack.pod_until("shelled", phase("Succeeded"))
        said = stack.said(pod, "main")
        assert said[:2] == [str(stack.state.resolve() / "node/programs/vllm"), "42"]
        assert any("--max-loras" in line for line in said)
