"""Our files for the guide say what the guide says, and the tutorial types what the guide types.

Method: both sides are read as data (objects of YAML, words of commands) and compared; only what
the guide takes from the internet is replaced, by the table SOURCES.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import (
    Outcome,
    Shell,
    fenced,
    here_documents,
    pasted,
    replaced,
    words,
)

Object = dict[str, Any]

# What the guide downloads, and what stands for it here.
SOURCES = {
    "oci://cr.kgateway.dev/kgateway-dev/charts/kgateway-crds": "charts/inferway-crds",
    "oci://cr.kgateway.dev/kgateway-dev/charts/kgateway": "charts/inferway",
    "oci://registry.k8s.io/gateway-api-inference-extension/charts/inferencepool": (
        "charts/inferencepool"
    ),
}
FILES = ("1-model-server.yaml", "5-gateway.yaml")


def objects(text: str) -> list[Object]:
    """The objects of a YAML stream; YAML inside a ConfigMap is read too."""
    found = [item for item in yaml.safe_load_all(text) if item]
    for item in found:
        if item["kind"] == "ConfigMap":
            item["data"] = {name: yaml.safe_load(value) for name, value in item["data"].items()}
    return found


def without_versions(command: list[str]) -> list[str]:
    """The command without ``--version X``, which a chart on disk has no use for."""
    kept = list(command)
    while "--version" in kept:
        place = kept.index("--version")
        del kept[place : place + 2]
    return kept


def by_kind(items: list[Object]) -> dict[str, Object]:
    return {item["kind"]: item for item in items}


@pytest.mark.parametrize("name", FILES)
def test_our_manifests_are_the_guides(published: str, root: Path, name: str) -> None:
    guide = {
        item["kind"]: item
        for block in pasted(published)
        for text in here_documents(block)
        for item in objects(text)
    }
    ours = by_kind(objects((root / "examples" / "guide" / name).read_text()))
    assert ours
    for kind, item in ours.items():
        assert item == guide[kind], kind


def test_no_manifest_of_the_guide_is_left_out(published: str, root: Path) -> None:
    guide = {
        (item["kind"], item["metadata"]["name"])
        for block in pasted(published)
        for text in here_documents(block)
        for item in objects(text)
    }
    ours = {
        (item["kind"], item["metadata"]["name"])
        for name in FILES
        for item in objects((root / "examples" / "guide" / name).read_text())
    }
    assert ours == guide
    assert len(ours) == 4


def test_the_tutorial_types_the_guides_helm_and_curl(published: str, root: Path) -> None:
    def chosen(markdown: str) -> list[list[str]]:
        return [
            sorted(without_versions(command))
            for block in pasted(replaced(markdown, SOURCES))
            for command in words(block)
            if command[:2] in (["helm", "upgrade"], ["helm", "install"], ["curl", "-i"])
        ]

    tutorial = (root / "docs" / "tutorial" / "guide.md").read_text()
    assert len(chosen(published)) == 4
    assert chosen(tutorial) == chosen(published)


def test_the_readme_beside_the_manifests_types_the_same(published: str, root: Path) -> None:
    readme = (root / "examples" / "guide" / "README.md").read_text()
    ours = words("".join(line[4:] for line in readme.splitlines(True) if line.startswith("    ")))
    exported = replaced(published, {"$GATEWAY_PROVIDER": "none"})
    for block in pasted(replaced(exported, SOURCES)):
        for command in words(block):
            if command[:2] in (["helm", "upgrade"], ["helm", "install"]):
                assert sorted(without_versions(command)) in [sorted(entry) for entry in ours]


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("```bash\nkubectl get pods\n```\n", ["kubectl get pods\n"]),
        ("```\nkubectl get pods\n```\n", ["kubectl get pods\n"]),
        ("```console\n$ inferway up\n```\n", []),
        ("```text\nkubectl said so\n```\n", []),
        ("```\nHTTP/1.1 200 OK\n```\n", []),
        ("no fence: kubectl get pods\n", []),
    ],
)
def test_pasted_blocks(markdown: str, expected: list[str]) -> None:
    assert pasted(markdown) == expected


def test_words_join_lines_and_leave_here_documents_out() -> None:
    block = "helm install x \\\n--set a=b  # why\ncat <<EOF\nhelm no\nEOF\ncurl -d '{\n\"a\": 1}'\n"
    assert words(block) == [
        ["helm", "install", "x", "--set", "a=b"],
        ["cat"],
        ["curl", "-d", '{\n"a": 1}'],
    ]
    assert here_documents(block) == ["helm no\n"]


async def test_a_shell_keeps_variables_and_tells_the_first_failure(tmp_path: Path) -> None:
    async with Shell(tmp_path, {"GIVEN": "env"}) as shell:
        first = await shell.paste("X=1\necho $GIVEN", seconds=10)
        assert first.succeeded() == "env"
        second = await shell.paste("(exit 3)\necho $X\nfalse", seconds=10)
        assert (second.code, second.output) == (3, "1")
        with pytest.raises(AssertionError, match="exit code 3"):
            second.succeeded()
        assert await shell.paste("cat <<EOF\n$X\nEOF", seconds=10) == Outcome(
            "cat <<EOF\n$X\nEOF", 0, "1"
        )


async def test_a_shell_that_ends_says_so(tmp_path: Path) -> None:
    async with Shell(tmp_path, {}) as shell:
        assert (await shell.paste("exit 0", seconds=10)).code == 255


def test_every_block_of_the_tutorial_is_marked(root: Path) -> None:
    tutorial = (root / "docs" / "tutorial" / "guide.md").read_text()
    assert {info for info, _ in fenced(tutorial)} <= {"bash", "console", "text"}
