"""Renders the charts into the manifests that ``inferway up`` applies.

Knows the two files of src/inferway/cli/manifests/ and what each is made of; talks to no cluster.
The chart of our own kinds is written first, from the typed structs. Run ``make manifests`` after a
change of charts/, examples/demo/ or src/inferway/api/inferway.py; tests compare.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from render_crds import PlainDumper
from render_crds import main as render_crds

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS = ROOT / "src" / "inferway" / "cli" / "manifests"
SYSTEM_NAMESPACE = "inferway-system"
POOL = "vllm-qwen"

HEADER = "# Rendered from the charts by tools/render_manifests.py; change those and run it again.\n"
# These labels would make Helm take objects for its own that no release of Helm has made.
HELM_LABEL = "helm.sh/chart"
MANAGED_BY = "app.kubernetes.io/managed-by"

Object = dict[str, Any]


def find_helm() -> str:
    """The helm of build/tools, else the machine's own. Raises SystemExit without one."""
    built = ROOT / "build" / "tools" / "helm"
    found = str(built) if built.exists() else shutil.which("helm")
    if found is None:
        raise SystemExit("helm is not here; `make build/tools/helm` brings one.")
    return found


def template(helm: str, release: str, chart: str, namespace: str, *values: str) -> list[Object]:
    """The objects of a chart, as ``helm template`` gives them."""
    words = [helm, "template", release, str(ROOT / "charts" / chart), "--namespace", namespace]
    for value in values:
        words += ["--set", value]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(result.stderr)
    return [item for item in yaml.safe_load_all(result.stdout) if item]


def example(name: str) -> list[Object]:
    """The objects of a file under examples/demo."""
    text = (ROOT / "examples" / "demo" / name).read_text()
    return [item for item in yaml.safe_load_all(text) if item]


def without_helm(value: Any) -> Any:
    """The same value with no trace of Helm in its labels."""
    if isinstance(value, list):
        return [without_helm(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: without_helm(item) for key, item in value.items() if key != HELM_LABEL}
    if kept.get(MANAGED_BY) == "Helm":
        kept[MANAGED_BY] = "inferway-up"
    return kept


def stack(helm: str) -> Iterator[Object]:
    """Inferway itself: its namespace, its kind, the gateway controller and its class."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}}
    yield from template(helm, "inferway-crds", "inferway-crds", SYSTEM_NAMESPACE)
    yield from template(helm, "inferway", "inferway", SYSTEM_NAMESPACE)


def demo(helm: str) -> Iterator[Object]:
    """Model servers, their pool with its picker, a Gateway and a route."""
    labels = f"inferencePool.modelServers.matchLabels.app={POOL}"
    yield from example("model-servers.yaml")
    yield from template(helm, POOL, "inferencepool", "default", labels)
    yield from example("gateway.yaml")


def text(objects: Iterable[Object]) -> str:
    """One YAML stream, the same bytes for the same objects."""
    return HEADER + "---\n".join(
        yaml.dump(without_helm(item), Dumper=PlainDumper, sort_keys=False, width=10_000)
        for item in objects
    )


def render(helm: str) -> dict[str, str]:
    """The text of each file by its name."""
    return {"stack.yaml": text(stack(helm)), "demo.yaml": text(demo(helm))}


def main() -> int:
    """Writes the files that differ and names them, the kinds in the chart first."""
    render_crds()
    for name, content in render(find_helm()).items():
        path = MANIFESTS / name
        if not path.exists() or path.read_text() != content:
            path.write_text(content)
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
