"""Flags of ``vllm serve`` and its like that are accepted without effect.

Values are True where a flag takes several words.
"""

from __future__ import annotations

from types import MappingProxyType

_ONE = (
    "additional-config allowed-local-media-path api-server-count "
    "attention-backend block-hash-algo chat-template chat-template-content-format code-revision "
    "collect-detailed-traces compilation-config config-format convert cp-kv-cache-interleave-size "
    "cpu-offload-gb data-parallel-address data-parallel-backend data-parallel-rank "
    "data-parallel-rpc-port data-parallel-size data-parallel-size-local data-parallel-start-rank "
    "dcp-size decode-context-parallel-size default-chat-template-kwargs default-mm-loras device "
    "distributed-executor-backend download-dir dtype eplb-config fingerprint-mode "
    "fingerprint-value generation-config generation-config-path guided-decoding-backend "
    "h11-max-header-count h11-max-incomplete-event-size hf-config-path hf-overrides hf-token "
    "ignore-patterns io-processor-plugin kernel-config kv-events-config kv-offloading-backend "
    "kv-offloading-size kv-sharing-fast-prefill kv-transfer-config ec-transfer-config load-format "
    "log-config-file logits-processor-pattern logprobs-mode long-prefill-token-threshold "
    "lora-dtype lora-extra-vocab-size lora-target-modules mamba-block-size mamba-cache-dtype "
    "mamba-ssm-cache-dtype master-addr master-port max-log-len max-logprobs "
    "max-long-partial-prefills max-num-partial-prefills max-parallel-loading-workers "
    "max-seq-len-to-capture media-io-kwargs middleware mm-encoder-tp-mode mm-processor-cache-gb "
    "mm-processor-cache-type mm-processor-kwargs mm-shm-cache-max-object-size-mb model-class-"
    "overrides model-impl model-loader-extra-config nnodes node-rank numa-bind-cpus "
    "num-lookahead-slots num-scheduler-steps offload-backend optimization-level otlp-traces-"
    "endpoint override-attention-dtype override-generation-config override-neuron-config "
    "override-pooler-config performance-mode pipeline-parallel-size pooler-config "
    "prefix-caching-hash-algo preemption-mode prefill-context-parallel-size profiler-config "
    "pt-load-map-location quantization quantization-config quantization-param-path "
    "qlora-adapter-name-or-path ray-workers-use-nsight reasoning-config reasoning-parser "
    "reasoning-parser-plugin renderer-num-workers response-role revision rope-scaling rope-theta "
    "runner safetensors-load-strategy scheduler-cls scheduler-delay-factor scheduling-policy "
    "show-hidden-metrics-for-version skip-mm-profiling-size speculative-config spec-method "
    "ssl-ca-certs ssl-cert-reqs ssl-certfile ssl-ciphers ssl-keyfile stream-interval "
    "structured-outputs-config swap-space task tensor-parallel-size tokenizer tokenizer-mode "
    "tokenizer-pool-extra-config tokenizer-pool-size tokenizer-pool-type tokenizer-revision "
    "tool-call-parser tool-parser-plugin tool-server video-pruning-rate vit-cuda-graph "
    "weight-transfer-config worker-cls worker-extension-cls worker-use-ray-port max-concurrent-"
    "batches limit-mm-per-prompt data-parallel-supervisor-port shutdown-timeout"
)
_SEVERAL = (
    "allowed-media-domains allowed-headers allowed-methods allowed-origins "
    "cuda-graph-sizes cudagraph-capture-sizes logits-processors all2all-backend"
)
_SWITCHES = (
    "aggregate-engine-logging allow-credentials allow-deprecated-quantization async-scheduling "
    "calculate-kv-scales cudagraph-metrics data-parallel-external-lb data-parallel-hybrid-lb "
    "disable-async-output-proc disable-cascade-attn disable-chunked-mm-input "
    "disable-custom-all-reduce disable-fastapi-docs disable-frontend-multiprocessing "
    "disable-hybrid-kv-cache-manager disable-log-requests disable-log-stats "
    "disable-logprobs-during-spec-decoding disable-mm-preprocessor-cache disable-nccl-for-dp-"
    "synchronization disable-sliding-window enable-auto-tool-choice enable-dbo enable-eplb "
    "enable-expert-parallel enable-flash-late-interaction enable-layerwise-nvtx-tracing "
    "enable-log-deltas enable-log-outputs enable-log-requests enable-lora-bias "
    "enable-mfu-metrics enable-mm-embeds enable-multimodal-encoder-data-parallel "
    "enable-offline-docs enable-per-request-metrics enable-prompt-adapter enable-prompt-embeds "
    "enable-reasoning enable-return-routed-experts enable-server-load-tracking enable-sleep-mode "
    "enable-ssl-refresh enable-tokenizer-info-endpoint enforce-eager "
    "exclude-tools-when-tool-choice-none expand-tools-even-if-tool-choice-none "
    "fully-sharded-loras "
    "interleave-mm-strings kv-cache-metrics kv-cache-dtype-skip-layers language-model-only "
    "log-error-stack mm-encoder-only multi-step-stream-outputs return-tokens-as-token-ids "
    "skip-mm-profiling skip-tokenizer-init specialize-active-lora tokens-only headless "
    "trust-remote-code trust-request-chat-template use-tqdm-on-load use-v2-block-manager "
    "worker-use-ray long-lora-scaling-factors enable-tower-connector-lora"
)

# Flags of llm-d-inference-sim, whose images the simulated server can stand in for.
_OTHER_SIMULATOR = (
    "dataset-path dataset-url event-batch-size failure-injection-rate failure-types fake-metrics "
    "global-cache-hit-threshold hash-seed inter-token-latency inter-token-latency-std-dev "
    "kv-cache-size kv-cache-transfer-latency kv-cache-transfer-latency-std-dev "
    "kv-cache-transfer-time-per-token kv-cache-transfer-time-std-dev kv-events-replay-endpoint "
    "latency-calculator max-waiting-queue-length mode prefill-overhead prefill-overhead-std-dev "
    "prefill-time-per-token prefill-time-std-dev startup-duration time-factor-under-load "
    "time-to-first-token time-to-first-token-std-dev zmq-endpoint zmq-max-connect-attempts"
)

IGNORED_VALUES = MappingProxyType(
    {
        **dict.fromkeys((f"--{name}" for name in f"{_ONE} {_OTHER_SIMULATOR}".split()), False),
        **dict.fromkeys((f"--{name}" for name in _SEVERAL.split()), True),
    }
)
IGNORED_SWITCHES = frozenset(f"--{name}" for name in f"{_SWITCHES} enable-kvcache".split())
# Short forms of flags above, each with one value.
SHORT_VALUES = frozenset(
    {"-tp", "-pp", "-dp", "-dpl", "-dpr", "-dpa", "-dpp", "-dpb", "-dcp", "-pcp", "-q", "-cc", "-n",
     "-r", "-asc", "-ep"}
)  # fmt: skip
