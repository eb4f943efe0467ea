"""``token-producer``: how many tokens a prompt has, estimated from its bytes.

The published one can have a model server tokenize every prompt. Nothing here needs token ids:
prefixes are compared by bytes, and the ratio of bytes to tokens is learned from the servers' usage.
"""

from __future__ import annotations

from inferway.scheduling.plugins.base import Plugin
from inferway.scheduling.plugins.types import Data, Kind, Making, Parameter, PluginType

SIDECARS = {
    "vllm": "needs a server that renders prompts",
    "udsTokenizerConfig": "needs the tokenizer sidecar",
}


def _build(making: Making) -> Plugin:
    for name, why in SIDECARS.items():
        if making.parameters[name]:
            raise ValueError(
                f"{name}: {why}, which this picker does not ask; without {name} it estimates "
                "tokens by a ratio that it learns from the servers' usage"
            )
    return Plugin()


TYPE = PluginType(
    "token-producer",
    Kind.PRODUCER,
    _build,
    {
        "estimate": Parameter(dict, None, unused=True),
        "modelName": Parameter(str, "", unused=True),
        "vllm": Parameter(dict, None, help="Refused: a server that renders prompts."),
        "udsTokenizerConfig": Parameter(dict, None, help="Refused: the tokenizer sidecar."),
    },
    does="bytes / ratio, which is learned for each model from usage; 4 until something is known.",
    gives=Data.TOKENS,
)
