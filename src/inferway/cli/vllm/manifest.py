"""The demo's model servers with real vLLM in them. Pure: objects in, objects out.

What changes: the image, one replica in place of three, the adapters of the model that is served,
and probes that leave a model time to load. Pool, picker, Gateway and route stay as they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from inferway.cli.vllm import memory
from inferway.cli.vllm.choice import Choice
from inferway.cli.vllm.models import GUIDE_MODEL, SMOLLM2

Object = dict[str, Any]

DEPLOYMENT = "vllm-qwen"
CONTAINER = "vllm"
ADAPTERS = ("food-review-0", "food-review-1")
# A server of a few hundred megabytes is up in 40 to 100 s on two cores; larger ones take longer.
START_SECONDS_MAX = 1800
PROBE_SECONDS = 2


def with_vllm(item: Object, choice: Choice) -> Object:
    """The object as it is, or the model servers' Deployment for real vLLM."""
    if (item["kind"], item["metadata"]["name"]) != ("Deployment", DEPLOYMENT):
        return item
    container = {
        **item["spec"]["template"]["spec"]["containers"][0],
        "image": f"vllm/vllm-openai-cpu:v{choice.version}",
        "args": _arguments(choice),
        "env": [
            {"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "true"},
            {"name": memory.KV_CACHE_VARIABLE, "value": str(memory.KV_CACHE_GIB_DEFAULT)},
        ],
        "startupProbe": {
            "httpGet": {"path": "/health", "port": "http"},
            "periodSeconds": PROBE_SECONDS,
            "failureThreshold": START_SECONDS_MAX // PROBE_SECONDS,
        },
        # vLLM answers late while it computes for others on few cores; that is no fault.
        "readinessProbe": _probe(),
        "livenessProbe": _probe() | {"failureThreshold": 30},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    template = item["spec"]["template"]
    spec = template["spec"] | {"containers": [container], "terminationGracePeriodSeconds": 60}
    return item | {"spec": item["spec"] | {"replicas": 1, "template": template | {"spec": spec}}}


def _probe() -> Object:
    return {
        "httpGet": {"path": "/health", "port": "http"},
        "periodSeconds": PROBE_SECONDS,
        "timeoutSeconds": 5,
    }


def _arguments(choice: Choice) -> list[str]:
    assert choice.served is not None
    name = choice.served.name
    names = list(dict.fromkeys([GUIDE_MODEL, name]))
    words = ["--model", name, "--port", "8000", "--served-model-name", *names]
    words += ["--enable-lora", "--max-loras", "4"]
    if Path(str(choice.served.folder)).name == SMOLLM2 and set(ADAPTERS) <= set(choice.models):
        adapters = [
            json.dumps({"name": name, "path": name, "base_model_name": GUIDE_MODEL})
            for name in ADAPTERS
        ]
        words += ["--lora-modules", *adapters]
    return words
