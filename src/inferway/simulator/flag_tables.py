"""Flags of ``vllm serve`` and its like that are accepted without effect.

Values are True where a flag takes several words.
"""

from __future__ import annotations

from types import MappingProxyType

_ONE = (
    "additional-config all2all-backend allowed-headers allowed-local-media-path allowed-methods "
    "allowed-origins anthropic-disabled-thinking-effort api-server-count attention-backend "
    "attention-config aux-output-config block-hash-algo chat-template "
    "chat-template-content-format code-revision cohere-format compilation-config config-format "
    "convert cp-kv-cache-interleave-size cpu-distributed-timeout-seconds cpu-offload-gb "
    "custom-histogram-buckets data-parallel-address data-parallel-backend data-parallel-rank "
    "data-parallel-rpc-port data-parallel-size data-parallel-size-local "
    "data-parallel-start-rank data-parallel-supervisor-port dbo-decode-token-threshold "
    "dbo-prefill-token-threshold dcp-comm-backend dcp-kv-cache-interleave-size dcp-size "
    "decode-context-parallel-size default-chat-template-kwargs default-mm-loras device "
    "device-ids diffusion-config distributed-executor-backend distributed-timeout-seconds "
    "download-dir dp-supervisor-probe-failure-threshold dp-supervisor-probe-interval-s "
    "dp-supervisor-probe-timeout-s dp-sync-interval ec-manager-config ec-transfer-config "
    "elastic-ep-max-dp-size engram-config eplb-config expert-placement-strategy "
    "fault-tolerance-config fingerprint-mode fingerprint-value gdn-prefill-backend "
    "generation-config generation-config-path grpc-port guided-decoding-backend "
    "h11-max-header-count h11-max-incomplete-event-size hf-config-path hf-overrides "
    "io-processor-plugin ir-op-priority jit-monitor-mode kda-decode-backend kda-prefill-backend "
    "kernel-config kv-cache-metrics-sample kv-offloading-backend "
    "kv-offloading-size kv-transfer-config limit-mm-per-prompt linear-backend load-format "
    "log-config-file log-level logging-config logits-processor-pattern logprobs-mode "
    "long-prefill-token-threshold lora-dtype lora-extra-vocab-size mamba-backend "
    "mamba-block-size mamba-cache-dtype mamba-cache-mode mamba-cache-philox-rounds "
    "mamba-ssm-cache-dtype mamba-ssu-algorithm master-addr master-port max-concurrent-batches "
    "max-cudagraph-capture-size max-log-len max-logprobs max-long-partial-prefills "
    "max-lora-cls-labels max-num-active-seqs max-num-partial-prefills max-num-queued-reqs "
    "max-num-queued-tokens max-num-scheduled-tokens max-parallel-loading-workers "
    "max-seq-len-to-capture media-io-kwargs middleware mm-encoder-attn-backend "
    "mm-encoder-attn-dtype mm-encoder-fp8-scale-path mm-encoder-fp8-scale-save-margin "
    "mm-encoder-fp8-scale-save-path mm-encoder-tp-mode mm-hasher-algorithm mm-ipc-gpu-memory-gb "
    "mm-processor-cache-gb mm-processor-cache-type mm-processor-device mm-processor-kwargs "
    "mm-shm-cache-max-object-size-mb mm-tensor-ipc model-class-overrides model-impl "
    "model-loader-extra-config moe-backend nnodes node-rank num-lookahead-slots "
    "num-scheduler-steps offload-backend offload-group-size offload-num-in-group "
    "offload-prefetch-step optimization-level otlp-traces-endpoint override-attention-dtype "
    "override-generation-config override-neuron-config override-pooler-config "
    "per-request-spec-decode-metrics performance-mode pipeline-parallel-size pooler-config "
    "preemption-mode prefill-context-parallel-size prefill-schedule-interval "
    "prefix-cache-retention-interval prefix-caching-hash-algo prefix-match-unit profiler-config "
    "pt-load-map-location qlora-adapter-name-or-path quantization quantization-config "
    "quantization-param-path reasoning-config reasoning-parser reasoning-parser-plugin "
    "renderer-num-workers replayssm-buffer-len response-role revision rope-scaling rope-theta "
    "runner safetensors-load-strategy safetensors-prefetch-block-size "
    "safetensors-prefetch-num-threads scheduler-cls scheduler-delay-factor scheduling-policy "
    "show-hidden-metrics-for-version shutdown-timeout skip-mm-profiling-size "
    "sparse-indexer-topk-backend spec-method spec-model spec-tokens speculative-config "
    "sse-keep-alive-interval ssl-ca-certs ssl-cert-reqs ssl-certfile ssl-ciphers ssl-keyfile "
    "stream-interval structured-outputs-config swap-space task tensor-parallel-size tokenizer "
    "tokenizer-mode tokenizer-pool-extra-config tokenizer-pool-size tokenizer-pool-type "
    "tokenizer-revision tool-call-parser tool-parser-plugin tool-server tool-strict-level "
    "ubatch-size video-pruning-method video-pruning-rate vit-cuda-graph watermark "
    "watermark-config weight-transfer-config worker-cls worker-extension-cls "
    "worker-use-ray-port"
)
_SEVERAL = (
    "allowed-media-domains collect-detailed-traces cpu-offload-params cuda-graph-sizes "
    "cudagraph-capture-sizes hf-token ignore-patterns kv-cache-dtype-skip-layers "
    "logits-processors lora-target-modules numa-bind-cpus numa-bind-nodes offload-params "
    "sleep-preserve-parameter-names"
)
_SWITCHES = (
    "aggregate-engine-logging allow-credentials allow-deprecated-quantization async-scheduling "
    "calculate-kv-scales cohere-is-reasoning-model cudagraph-metrics data-parallel-external-lb "
    "data-parallel-hybrid-lb data-parallel-multi-port-external-lb dcp-q-replicate "
    "disable-async-output-proc disable-cascade-attn disable-chunked-mm-input "
    "disable-custom-all-reduce disable-fastapi-docs disable-frontend-multiprocessing "
    "disable-hybrid-kv-cache-manager disable-log-requests disable-log-stats "
    "disable-logprobs-during-spec-decoding disable-mm-preprocessor-cache "
    "disable-nccl-for-dp-synchronization disable-sliding-window enable-auto-tool-choice "
    "enable-batch-sharded-sampling enable-cumem-allocator enable-dbo enable-elastic-ep "
    "enable-ep-weight-filter enable-eplb enable-expert-parallel enable-fault-tolerance "
    "enable-flash-late-interaction enable-flashinfer-autotune enable-hc-sp "
    "enable-layerwise-nvtx-tracing enable-log-deltas enable-log-outputs enable-log-requests "
    "enable-logging-iteration-details enable-lora-bias enable-mamba-cache-stochastic-rounding "
    "enable-mamba-shared-prefix-checkpoint enable-mfu-metrics enable-mixed-moe-lora-format "
    "enable-mm-embeds enable-moe-shared-loras enable-multimodal-encoder-data-parallel "
    "enable-nccl-comm-suspend enable-offline-docs enable-per-request-metrics "
    "enable-prompt-adapter enable-prompt-embeds enable-reasoning enable-return-routed-experts "
    "enable-scale-out enable-server-load-tracking enable-shm-tensor-arena enable-sleep-mode "
    "enable-ssl-refresh enable-tokenizer-info-endpoint enable-tower-connector-lora "
    "enable-trace-replay enforce-eager exclude-tools-when-tool-choice-none "
    "expand-tools-even-if-tool-choice-none fail-on-environ-validation fully-sharded-loras grpc "
    "headless interleave-mm-strings jit-monitor-verbose kv-cache-metrics "
    "kv-sharing-fast-prefill language-model-only log-error-stack long-lora-scaling-factors "
    "long-prefill-token-threshold-adaptive mm-device-do-normalize mm-encoder-only "
    "multi-step-stream-outputs numa-bind ray-workers-use-nsight return-sampling-mask "
    "return-tokens-as-token-ids scheduler-reserve-full-isl skip-mm-profiling "
    "skip-tokenizer-init sleep-mode-offload-cudagraph specialize-active-lora swa-bounded-replay "
    "tokens-only trust-remote-code trust-request-chat-template trust-request-mm-kwargs "
    "use-fp64-gumbel use-replayssm use-tqdm-on-load use-v2-block-manager worker-use-ray"
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
# Short forms of flags above, with a value and without.
SHORT_VALUES = frozenset(
    {"-ac", "-asc", "-cc", "-dc", "-dcp", "-dp", "-dpa", "-dpb", "-dpl", "-dpn",
     "-dpp", "-dpr", "-n", "-pcp", "-pp", "-q", "-r", "-sc", "-tp"}
)  # fmt: skip
SHORT_SWITCHES = frozenset(["-dpe", "-dph", "-dpm", "-ep"])
