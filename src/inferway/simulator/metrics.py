"""vLLM's own metrics: names, labels, types and buckets as its ``/metrics`` shows them.

The exposition is written here and not by prometheus_client, because a router scrapes it many
times a second and every request is observed a dozen times. Knows no clock: callers pass the time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from inferway.simulator.engine.values import Stats

FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
# vLLM never drops a combination of adapters; a bound keeps a long test from growing for ever.
LORA_COMBINATIONS_MAX = 1000

_LATENCY = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
_FIRST_TOKEN = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_BETWEEN_TOKENS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
)  # fmt: skip
_STEP_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)

_PREEMPTIONS = (1, 2, 3, 4, 5, 10, 20)
# What this model of an engine never counts, with vLLM's names.
_DEVICE_COUNTERS = tuple(
    (
        f"estimated_{what}_per_gpu",
        f"Estimated number of {words} per GPU (for Model Flops Utilization calculations).",
    )
    for what, words in (
        ("flops", "floating point operations"),
        ("read_bytes", "bytes read from memory"),
        ("write_bytes", "bytes written to memory"),
    )
)
_EXTERNAL_COUNTERS = (
    (
        "external_prefix_cache_queries",
        (
            "External prefix cache queries from KV connector cross-instance cache sharing, in "
            "terms of number of queried tokens."
        ),
    ),
    (
        "external_prefix_cache_hits",
        (
            "External prefix cache hits from KV connector cross-instance cache sharing, in "
            "terms of number of cached tokens."
        ),
    ),
    (
        "mm_cache_queries",
        "Multi-modal cache queries, in terms of number of queried items.",
    ),
    ("mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items."),
)
_WAITING_REASONS = (
    "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling "
    "capacity; 'deferred' = deferred by transient constraints (LoRA budget, KV transfer, blocked "
    "status). Sum of all reasons equals vllm:num_requests_waiting."
)
_SLEEP_STATES = (
    "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake; "
    "weights_offloaded = 1 means sleep level 1; discard_all = 1 means sleep level 2."
)
_CACHE_TIERS = (
    "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host "
    "(offloaded to DRAM), disk, p2p (transferred from another vLLM instance) or "
    "external_unspecified. Counted at admission; sums to vllm:prefix_cache_hits + "
    "vllm:external_prefix_cache_hits."
)


def token_buckets(limit: int) -> tuple[int, ...]:
    """1, 2, 5 times the powers of ten up to ``limit``."""
    buckets: list[int] = []
    power = 1
    while True:
        for mantissa in (1, 2, 5):
            if mantissa * power > limit:
                return tuple(buckets)
            buckets.append(mantissa * power)
        power *= 10


def escape(value: str) -> str:
    """A label value as the exposition format wants it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class Histogram:
    """Counts per bucket and a sum."""

    __slots__ = ("buckets", "counts", "help", "name", "sum")

    def __init__(self, name: str, help_text: str, buckets: Sequence[float]) -> None:
        self.name = name
        self.help = help_text
        self.buckets = tuple(buckets)
        self.counts = [0] * (len(self.buckets) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.buckets, value)] += 1
        self.sum += value

    def observe_many(self, value: float, times: int) -> None:
        self.counts[bisect_left(self.buckets, value)] += times
        self.sum += value * times


class TokenHistograms:
    """What requests and steps are made of."""

    def __init__(self, max_model_len: int) -> None:
        tokens = token_buckets(max_model_len)
        self.request_prompt = Histogram(
            "request_prompt_tokens", "Number of prefill tokens processed.", tokens
        )
        self.request_generation = Histogram(
            "request_generation_tokens", "Number of generation tokens processed.", tokens
        )
        self.step = Histogram(
            "iteration_tokens_total", "Histogram of number of tokens per engine_step.", _STEP_TOKENS
        )
        self.request_max_generation = Histogram(
            "request_max_num_generation_tokens",
            "Histogram of maximum number of requested generation tokens.",
            tokens,
        )
        self.params_n = Histogram(
            "request_params_n", "Histogram of the n request parameter.", (1, 2, 5, 10, 20)
        )
        self.params_max_tokens = Histogram(
            "request_params_max_tokens", "Histogram of the max_tokens request parameter.", tokens
        )

    def all(self) -> tuple[Histogram, ...]:
        return tuple(vars(self).values())


class TimeHistograms:
    """How long things took, in seconds."""

    def __init__(self) -> None:
        self.first_token = Histogram(
            "time_to_first_token_seconds",
            "Histogram of time to first token in seconds.",
            _FIRST_TOKEN,
        )
        self.inter_token = Histogram(
            "inter_token_latency_seconds",
            "Histogram of inter-token latency in seconds.",
            _BETWEEN_TOKENS,
        )
        self.request_per_token = Histogram(
            "request_time_per_output_token_seconds",
            "Histogram of time_per_output_token_seconds per request.",
            _BETWEEN_TOKENS,
        )
        self.end_to_end = Histogram(
            "e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", _LATENCY
        )
        self.queue = _phase("queue", "WAITING")
        self.inference = _phase("inference", "RUNNING")
        self.prefill = _phase("prefill", "PREFILL")
        self.decode = _phase("decode", "DECODE")

    def all(self) -> tuple[Histogram, ...]:
        return tuple(vars(self).values())


class WorkHistograms:
    """What a finished request cost the engine."""

    def __init__(self, max_model_len: int) -> None:
        self.preemptions = Histogram(
            "request_num_preemptions",
            "Histogram of the number of times a request was preempted.",
            _PREEMPTIONS,
        )
        self.computed = Histogram(
            "request_prefill_kv_computed_tokens",
            "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
            token_buckets(max_model_len),
        )

    def all(self) -> tuple[Histogram, ...]:
        return tuple(vars(self).values())


def _phase(name: str, phase: str) -> Histogram:
    return Histogram(
        f"request_{name}_time_seconds",
        f"Histogram of time spent in {phase} phase for request.",
        _LATENCY,
    )


class Metrics:
    """The families of one engine of one server."""

    def __init__(self, model: str, max_model_len: int, created: float) -> None:
        self._labels = f'engine="0",model_name="{escape(model)}"'
        self._created = created
        self.queried_tokens = 0
        self.hit_tokens = 0
        self.preemptions = 0
        self.prompt_tokens = 0
        self.cached_prompt_tokens = 0
        self.generation_tokens = 0
        self.finished = dict.fromkeys(FINISH_REASONS, 0)
        self.tokens = TokenHistograms(max_model_len)
        self.times = TimeHistograms()
        self.work = WorkHistograms(max_model_len)
        self._lora: dict[tuple[str, str], float] = {}

    def lora(self, running: Sequence[str], waiting: Sequence[str], wall: float) -> None:
        """Notes which adapters had requests in a step that ended at ``wall``."""
        key = (",".join(running), ",".join(waiting))
        self._lora[key] = wall
        if len(self._lora) > LORA_COMBINATIONS_MAX:
            del self._lora[min(self._lora, key=self._lora.__getitem__)]

    def render(self, stats: Stats, lora_max: int, info: dict[str, str]) -> str:
        """The exposition text. ``lora_max`` of zero leaves the adapter family out."""
        out: list[str] = []
        for name, help_text in _DEVICE_COUNTERS:
            self._counter(out, name, help_text, 0)
        self._state(out, stats)
        for name, help_text in _EXTERNAL_COUNTERS:
            self._counter(out, name, help_text, 0)
        self._counter(
            out, "num_preemptions", "Cumulative number of preemption from the engine.",
            self.preemptions,
        )  # fmt: skip
        self._prompt_tokens(out)
        self._counter(
            out, "generation_tokens", "Number of generation tokens processed.",
            self.generation_tokens,
        )  # fmt: skip
        self._finished(out)
        for histogram in (*self.tokens.all(), *self.times.all(), *self.work.all()):
            self._histogram(out, histogram)
        if lora_max:
            self._lora_info(out, lora_max)
        labels = ",".join(f'{key}="{escape(value)}"' for key, value in info.items())
        out.append(
            "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig\n"
            "# TYPE vllm:cache_config_info gauge\n"
            f"vllm:cache_config_info{{{labels}}} 1.0\n"
        )
        return "".join(out)

    def _state(self, out: list[str], stats: Stats) -> None:
        """What the engine holds, and what its prefix cache was asked."""
        self._gauge(
            out, "num_requests_running", "Number of requests in model execution batches.",
            {"": stats.running},
        )  # fmt: skip
        self._gauge(
            out, "num_requests_waiting", "Number of requests waiting to be processed.",
            {"": stats.waiting},
        )  # fmt: skip
        self._gauge(
            out, "num_requests_waiting_by_reason", _WAITING_REASONS,
            {',reason="capacity"': stats.waiting - stats.deferred,
             ',reason="deferred"': stats.deferred},
        )  # fmt: skip
        states = {"awake": 1.0, "weights_offloaded": 0.0, "discard_all": 0.0}
        self._gauge(
            out, "engine_sleep_state", _SLEEP_STATES,
            {f',sleep_state="{name}"': value for name, value in states.items()},
        )  # fmt: skip
        self._gauge(
            out, "kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.",
            {"": stats.cache_usage},
        )  # fmt: skip
        self._counter(
            out, "prefix_cache_queries", "Prefix cache queries, in terms of number of queried "
            "tokens.", self.queried_tokens,
        )  # fmt: skip
        self._counter(
            out, "prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.",
            self.hit_tokens,
        )  # fmt: skip

    def _prompt_tokens(self, out: list[str]) -> None:
        """Tokens of prompts, and where their keys and values came from."""
        cached = self.cached_prompt_tokens
        self._counter(
            out, "prompt_tokens", "Number of prefill tokens processed.", self.prompt_tokens
        )
        computed = self.prompt_tokens - cached
        self._counters(
            out, "prompt_tokens_by_source", "Number of prompt tokens by source.",
            {"local_compute": computed, "local_cache_hit": cached, "external_kv_transfer": 0},
        )  # fmt: skip
        self._counter(
            out, "prompt_tokens_cached", "Number of cached prompt tokens (local + external).",
            cached,
        )  # fmt: skip
        tiers = {"device": cached, "host": 0, "p2p": 0, "disk": 0, "external_unspecified": 0}
        self._counters(out, "prompt_tokens_cached_by_source", _CACHE_TIERS, tiers)

    def _gauge(
        self, out: list[str], name: str, help_text: str, values: Mapping[str, float]
    ) -> None:
        """A gauge with a value for each of some further labels."""
        out.append(f"# HELP vllm:{name} {help_text}\n# TYPE vllm:{name} gauge\n")
        out += [
            f"vllm:{name}{{{self._labels}{more}}} {float(value)!r}\n"
            for more, value in values.items()
        ]

    def _counters(
        self, out: list[str], name: str, help_text: str, values: Mapping[str, float]
    ) -> None:
        """A counter with a value for each source."""
        out.append(f"# HELP vllm:{name}_total {help_text}\n# TYPE vllm:{name}_total counter\n")
        series = {f'{self._labels},source="{source}"': value for source, value in values.items()}
        out += [
            f"vllm:{name}_total{{{labels}}} {float(value)!r}\n" for labels, value in series.items()
        ]
        self._created_series(out, name, help_text, tuple(series))

    def _counter(self, out: list[str], name: str, help_text: str, value: float) -> None:
        out.append(
            f"# HELP vllm:{name}_total {help_text}\n# TYPE vllm:{name}_total counter\n"
            f"vllm:{name}_total{{{self._labels}}} {float(value)!r}\n"
        )
        self._created_series(out, name, help_text, (self._labels,))

    def _finished(self, out: list[str]) -> None:
        name, help_text = "request_success", "Count of successfully processed requests."
        out.append(f"# HELP vllm:{name}_total {help_text}\n# TYPE vllm:{name}_total counter\n")
        series = []
        for reason, count in self.finished.items():
            labels = f'engine="0",finished_reason="{reason}",{self._labels.split(",", 1)[1]}'
            series.append(labels)
            out.append(f"vllm:{name}_total{{{labels}}} {float(count)!r}\n")
        self._created_series(out, name, help_text, series)
        name = "admission_rejections"
        help_text = "Number of admission attempts rejected by a queue limit, by reason."
        out.append(f"# HELP vllm:{name}_total {help_text}\n# TYPE vllm:{name}_total counter\n")
        series = [
            f'{self._labels.split(",", 1)[1]},reason="{reason}"'
            for reason in ("max_num_queued_reqs", "max_num_queued_tokens")
        ]
        out += [f"vllm:{name}_total{{{labels}}} 0.0\n" for labels in series]
        self._created_series(out, name, help_text, series)

    def _histogram(self, out: list[str], histogram: Histogram) -> None:
        name = f"vllm:{histogram.name}"
        out.append(f"# HELP {name} {histogram.help}\n# TYPE {name} histogram\n")
        engine, model = self._labels.split(",", 1)
        total = 0
        for bound, count in zip(histogram.buckets, histogram.counts, strict=False):
            total += count
            out.append(f'{name}_bucket{{{engine},le="{float(bound)!r}",{model}}} {total}.0\n')
        total += histogram.counts[-1]
        out.append(
            f'{name}_bucket{{{engine},le="+Inf",{model}}} {total}.0\n'
            f"{name}_count{{{self._labels}}} {total}.0\n"
            f"{name}_sum{{{self._labels}}} {float(histogram.sum)!r}\n"
        )
        self._created_series(out, histogram.name, histogram.help, (self._labels,))

    def _created_series(
        self, out: list[str], name: str, help_text: str, series: Sequence[str]
    ) -> None:
        full = f"vllm:{name}_created"
        out.append(f"# HELP {full} {help_text}\n# TYPE {full} gauge\n")
        out += [f"{full}{{{labels}}} {self._created!r}\n" for labels in series]

    def _lora_info(self, out: list[str], lora_max: int) -> None:
        name = "vllm:lora_requests_info"
        out.append(f"# HELP {name} Running stats on lora requests.\n# TYPE {name} gauge\n")
        for (running, waiting), wall in self._lora.items():
            out.append(
                f'{name}{{max_lora="{lora_max}",running_lora_adapters="{escape(running)}",'
                f'waiting_lora_adapters="{escape(waiting)}"}} {wall!r}\n'
            )


def process_metrics(cpu_seconds: float, start: float, proc: dict[str, float]) -> str:
    """The process families of prometheus_client. ``proc`` has what the system tells."""
    families = (
        ("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes."),
        ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes."),
        ("process_start_time_seconds", "gauge",
         "Start time of the process since unix epoch in seconds."),
        ("process_cpu_seconds_total", "counter",
         "Total user and system CPU time spent in seconds."),
        ("process_open_fds", "gauge", "Number of open file descriptors."),
        ("process_max_fds", "gauge", "Maximum number of open file descriptors."),
    )  # fmt: skip
    values = {
        **proc,
        "process_start_time_seconds": start,
        "process_cpu_seconds_total": cpu_seconds,
    }
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} {kind}\n{name} {float(values[name])!r}\n"
        for name, kind, text in families
        if name in values
    )
